"""What fills the slots of the templates: people of many countries, organisations, job titles, and harmless matter."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import NamedTuple

from privacy_names_lexicon import NICKNAMES, ROMANISED_FIRST, ROMANISED_LAST, census, locales
from privacy_names_templates import FAMILIES

SLOT = re.compile(r"\{([A-Za-z]+)(\d?)\}")
LABELS = dict.fromkeys("PFLHRIUWwf", "PER") | {"O": "ORG", "S": "ORG", "J": "JOB", "K": "JOB", "C": "PLC"}


def listed(text: str) -> list[str]:
    """Entries of a list that is written with bars between them."""
    return [" ".join(entry.split()) for entry in text.split("|")]


ENGLISH_LOCALES = ("en_US", "en_GB", "en_IE", "en_NZ", "en_IN")
LATIN = listed(
    """de_DE | de_AT | de_CH | fr_FR | fr_CA | es_ES | es_MX | es_AR | it_IT | pt_BR | pt_PT | nl_NL |
nl_BE | pl_PL | sv_SE | no_NO | da_DK | fi_FI | tr_TR | cs_CZ | sk_SK | hu_HU | ro_RO | hr_HR |
sl_SI | lt_LT | lv_LV | et_EE | id_ID | vi_VN | az_AZ | en_IN | en_PK | en_KE | en_NG | yo_NG |
ig_NG | zu_ZA | tw_GH | sw | en_TH | ga_IE | en_IE | en_GB | is_IS"""
)
OTHERS = listed(
    """ru_RU | uk_UA | bg_BG | el_GR | ar_SA | ar_DZ | he_IL | hi_IN | ko_KR | ja_JP | fa_IR | th_TH | ka_GE |
ta_IN"""
)
CITIES = listed(
    """Paris | London | Berlin | Madrid | Rome | Vienna | New York | Los Angeles | San Francisco | Chicago |
Houston | Boston | Seattle | Austin | Dallas | Denver | Springfield | Georgetown | Portland | Atlanta |
Miami | Phoenix | Toronto | Sydney | Tokyo | Mumbai | Delhi | Singapore | Dublin | Amsterdam | Stockholm |
Oslo | Warsaw | Prague | Lisbon | Cairo | Lagos | Nairobi | Istanbul | Seoul | Beijing | Shanghai | Hong
Kong | California | Texas | Florida | Ohio | Michigan | Virginia | Georgia | France | Germany | Italy |
Spain | Brazil | India | Japan | Canada | Kenya | Ireland | Scotland | Manchester | Leeds | Bristol |
Glasgow | Munich | Hamburg | Lyon | Milan | Barcelona | Madison | Lincoln | Jackson | Franklin | Clayton |
Arlington | Salem | Fairview | Oxford | Cambridge | Charlotte | Columbus | Cleveland | Orlando | Sacramento
| Buenos Aires | Cape Town | Tel Aviv"""
)
STATES = listed(
    """AL | AK | AZ | CA | CO | CT | FL | GA | IL | IN | KS | LA | MA | MD | ME | MI | MN | MO | NC | NJ | NM | NV
| NY | OH | OR | PA | SC | TN | TX | UT | VA | WA | WI"""
)
STREETS = listed(
    """Oak | Maple | Cedar | Main | Elm | Pine | Washington | Lake | Hill | Park | Jackson | Lincoln | Franklin |
Chestnut | Aspen | Birch | Walnut | Spring | Church | Jefferson | Madison | Highland | Sunset | River |
Willow | Poplar | Johnson | Martin Luther King | Victoria | Market | Mill | King | Queen | Taylor | Wilson |
Adams"""
)
PRODUCTS = listed(
    """Docker | Kubernetes | PostgreSQL | Redis | Windows 11 | macOS | Linux | Chrome | Firefox | Excel |
PowerPoint | Word | Photoshop | Slack | Zoom | Teams | Jira | Jenkins | GitHub Actions | GitLab | Android |
iPhone | Galaxy | Tesla Model 3 | Alexa | Siri | Cortana | Claude | Gemini | ChatGPT | Llama | Mistral |
Bard | Watson | Julia | Ruby | Perl | Python | Java | Rust | Kafka | Cassandra | Hadoop | Spark |
Elasticsearch | Grafana | Prometheus | Terraform | Ansible | Puppet | Chef | Vault | Consul | Nginx | Apache
| Tomcat | Maven | Gradle | Ubuntu | Debian | Fedora | Oracle | MySQL | MongoDB | Azure | AWS Lambda |
Cloudflare | Salesforce | Netflix | Spotify | Metformin | Heparin | TensorFlow | PyTorch | OpenSSL | Visual
Studio"""
)
LIBRARIES = listed(
    """numpy | pandas | requests | django | flask | celery | jinja2 | scikit-learn | matplotlib | NLTK | spaCy |
Pillow | Twisted | Faker | React | Vue | Angular | Lodash | Express | Rails | Sinatra | Spring | Hibernate |
JUnit | Mockito | Hugo | Jekyll | Babel | Jest | Cypress | Selenium | Pandas | Flask | Django | Celery |
Gunicorn | Dash | Bokeh | Ray | Dask | Luigi"""
)
GENERAL_ORGS = listed(
    """Google | Microsoft | Apple | Amazon | IBM | Intel | NVIDIA | the United Nations | the European Union | NATO
| NASA | Siemens | Toyota | Samsung | Sony | the World Bank | the Red Cross | UNESCO | the Supreme Court |
Congress | Parliament | the Senate | Boeing | Airbus | Mozilla | the Linux Foundation | Meta | OpenAI |
Oracle | Cisco | Adobe"""
)
WORDS = listed(
    """report | budget | server | contract | network | kitchen | garden | project | module | invoice | feature |
problem | meeting | database | system | table | window | engine | filter | method | message | policy |
bridge | school | market | garage | printer | license | schedule | account | shipment | proposal | index |
parser | cache | queue | token | widget | layout | sensor | battery | river | museum | station | festival |
hypothesis | protocol | library | template | gradient | container | registry | archive | summary | session |
record | guide | option | manual | version | update | status | profile | dashboard | pipeline | cluster |
volume | interface | session | request | response | handler | object | event"""
)
INVENTED = listed(
    """ax | bel | cor | dyn | el | fin | gen | hel | in | jo | kal | lum | mer | neo | or | pan | quan | ri | sol |
ter | ul | vel | wy | xen | yar | zen | acu | bri | cy | omni | tri | vers | nova | luma | vio | syn | tel |
nex | core"""
)
FINAL_PARTS = (
    "tech soft ix ia on us ex io ly ware gen corp tron dyne works logic med bit net pay hub lab ara ent ova ion"
)
FINAL = FINAL_PARTS.split()
ADJECTIVES = listed(
    """Massive | Pacific | Atlantic | Northern | Golden | Silver | Blue | Red | Green | Summit | Pinnacle |
Prestige | United | First | Global | Bright | Clear | Iron | Sterling | Liberty | Quantum | Digital | Prime
| Urban | Coastal | Mountain | Evergreen | Horizon | Apex | Vertex | Nordic | Consolidated | Advanced |
Dynamic | Universal | Eastern | Royal | Meridian | Lakeside | Riverside | Oakwood | Crystal | Phoenix |
Alpha"""
)
NOUNS = listed(
    """Dynamic | Piper | Harbor | Bridge | Field | Stone | Peak | River | Star | Wave | Path | Light | Gate | Point
| Mesa | Falls | Edge | Rock | Tree | Sky | Valley | Forge | Anchor | Compass | Lantern | Worldwide |
Horizon | Cross | Shield | Arrow | Crown | Eagle | Lion | Falcon | Bear | Wolf | Maple | Ocean"""
)
KINDS = listed(
    """Inc | Inc. | LLC | Ltd | Ltd. | Corp | Corp. | Corporation | Company | Co. | GmbH | AG | PLC | Group
| Holdings | Industries | Enterprises | Systems | Technologies | Solutions | Labs | Partners |
Associates | Consulting | Logistics | Pharmaceuticals | Financial | Capital | Insurance | Bank |
Healthcare | Foods | Energy | Media | Studios | Software | Robotics | Analytics | Airlines | Motors
| Research | Science | Data Systems | Financial Group | Medical Group | Construction | Properties |
Realty | Ventures | Foundation | International | Services | Security | S.A. | Pvt Ltd | B.V. |
S.p.A. | AB | Biotech | Electronics | Engineering | Telecom | Design | Law Group | Credit Union"""
)
HEADS = listed(
    """Engineer | Developer | Manager | Director | Analyst | Administrator | Architect | Consultant | Designer |
Specialist | Officer | Coordinator | Assistant | Accountant | Auditor | Advisor | Representative |
Supervisor | Technician | Scientist | Researcher"""
)
FIELDS = listed(
    """Software | Data | Project | Product | Marketing | Sales | Operations | Financial | Human Resources | HR | IT
| Network | Database | Security | Systems | Quality Assurance | Research | Business | Legal | Compliance |
Risk | Clinical | Medical | Customer Success | Supply Chain | Machine Learning | DevOps | Web | Mechanical |
Electrical | Civil | Account | Program | Logistics | Procurement | Design | Content | Tax | Credit |
Insurance | Environmental | Safety | Production | Training | Communications | Public Relations | Biomedical
| Chemical | UX | Cloud | Office | Facilities | Construction | Case | Claims | Investment | Portfolio |
Technical Support | Field Service"""
)
SINGLE = listed(
    """Accountant | Actor | Architect | Attorney | Barista | Bookkeeper | Carpenter | Cashier | Chef | Dentist |
Dietitian | Economist | Editor | Electrician | Firefighter | Graphic Designer | Hairdresser | Journalist |
Lawyer | Lecturer | Librarian | Mechanic | Nurse | Registered Nurse | Nurse Practitioner | Paramedic |
Paralegal | Pharmacist | Photographer | Physical Therapist | Physician | Pilot | Plumber | Police Officer |
Professor | Associate Professor | Psychologist | Real Estate Agent | Receptionist | School Teacher | Teacher
| Secretary | Social Worker | Surgeon | Truck Driver | Veterinarian | Waiter | Welder | Writer | Executive
Assistant | Legal Counsel | General Counsel | Chief Executive Officer | CEO | CTO | CFO | Chief Technology
Officer | Chief Financial Officer | VP of Engineering | VP of Sales | Vice President of Marketing | Head of
Product | Head of People | Director of Operations | Director of Nursing | Chief of Staff | President |
Chairman | Founder | Co-founder | Managing Partner | Managing Director | Partner | Senior Partner | Staff
Accountant | Postdoctoral Researcher | Research Fellow | Research Scientist | Principal Investigator |
Flight Attendant | Security Guard | Construction Worker | Farm Manager | Dean of Students | Principal |
Financial Advisor | Loan Officer | Bank Teller"""
)
SUFFIXES = ("Jr.", "Sr.", "II", "III", "IV", "Esq.", "MD", "PhD")
LONG_MONTHS = listed("January|February|March|April|May|June|July|August|September|October|November|December")
HONORS = ("Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "Mr", "Mrs", "Ms", "Dr", "Judge", "Professor", "Miss", "Officer")


class Person(NamedTuple):
    first: str
    last: str
    middle: str
    full: str


class Fillers:
    """Draws what fills slots. Only names of `hands` exist: each is dealt to one of ten by its letters."""

    def __init__(self, folder: Path, seed: int, hands: frozenset[int]) -> None:
        self.random = random.Random(seed)
        firsts = census(folder, "dist.male.first") + census(folder, "dist.female.first")
        lasts = census(folder, "dist.all.last")[:20_000]
        keep = [row for row in firsts if self._hand(row[0]) in hands]
        self._firsts = [name.capitalize() for name, _ in keep], [share + 0.001 for _, share in keep]
        kept = [row for row in lasts if self._hand(row[0]) in hands]
        self._lasts = [name.capitalize() for name, _ in kept], [share + 0.0005 for _, share in kept]
        self._locales = {
            name: tuple([word for word in side if self._hand(word) in hands] for side in sides)
            for name, sides in locales().items()
        }
        self._locales["romanised"] = tuple(
            [word.capitalize() for word in text.split() if self._hand(word) in hands]
            for text in (ROMANISED_FIRST + " " + NICKNAMES, ROMANISED_LAST)
        )

    @staticmethod
    def _hand(word: str) -> int:
        return sum(map(ord, word.lower())) % 10

    def person(self) -> Person:
        pick, roll = self.random.choice, self.random.random()
        if roll < 0.42:
            first = self.random.choices(*self._firsts)[0]
            last = self.random.choices(*self._lasts)[0]
        elif roll < 0.54:
            first, last = pick(self._firsts[0]), pick(self._lasts[0])
        else:
            name = pick(LATIN) if roll < 0.82 else pick(ENGLISH_LOCALES) if roll < 0.88 else "romanised"
            if roll > 0.95:
                name = pick(OTHERS)
            first = pick(self._locales[name][0] or self._firsts[0])
            last = pick(self._locales[name][1] or self._lasts[0])
        style = self.random.random()
        if style < 0.03:
            last = (
                pick(["van ", "de ", "de la ", "von ", "Al-", "El-", "O'", "Mc", "Mac", "St. ", "bin ", "Di "]) + last
            )
        elif style < 0.06 and "-" not in last:
            last = f"{last}-{pick(self._lasts[0])}"
        elif style < 0.08:
            first = f"{first}-{pick(self._firsts[0])}"
        middle = pick(self._firsts[0])
        return Person(first, last, middle, self._full(first, middle, last))

    def _full(self, first: str, middle: str, last: str) -> str:
        """One of the ways in which a full name is written, by how often."""
        pick = self.random.choice
        plain = f"{first} {last}"
        ways = [
            (74, plain),
            (9, f"{first} {middle[0]}. {last}"),
            (4, f"{first} {middle} {last}"),
            (3, f"{first[0]}. {last}"),
            (2, f"{first[0]}. {middle[0]}. {last}"),
            (2, f"{plain}{pick([' ', ', '])}{pick(SUFFIXES)}"),
            (2, f"{plain} {pick(self._lasts[0])}"),
            (2, f'{first} "{middle}" {last}'),
            (2, plain.upper()),
            (1, plain.lower()),
        ]
        return self.random.choices([way for _, way in ways], [weight for weight, _ in ways])[0]

    def organisation(self) -> str:
        pick = self.random.choice
        last = self.random.choices(*self._lasts)[0]
        other = self.random.choices(*self._lasts)[0]
        third = pick(self._lasts[0])
        made = (pick(INVENTED) + pick([*INVENTED, ""]) + pick(FINAL)).capitalize()
        letters = "".join(self.random.choices("ABCDEFGHIKLMNOPRSTUVW", k=self.random.randint(2, 4)))
        kind = pick(KINDS)
        saint = pick(
            ["St. Mary's", "St. John's", "St. Luke's", "Mercy", "Sacred Heart", "Mount Sinai", pick(CITIES), last]
        )
        clinic = pick(["Hospital", "Medical Center", "General Hospital", "Clinic", "Regional Hospital"])
        body = pick(["First National Bank of", "Bank of", "City of", "Department of", "Church of", "Museum of"])
        ways = [
            (18, f"{last} {kind}"),
            (6, f"{last} & {other}" + pick(["", " LLP", " LLC", " Law Group", " Associates", " Partners"])),
            (4, f"{last}, {other} {pick(['&', 'and'])} {third}" + pick(["", " LLP", " PLLC"])),
            (3, f"{last}-{other}" + pick(["", f" {kind}"])),
            (13, f"{made} {kind}" + pick(["", "", " Inc.", " LLC", " Ltd"])),
            (8, made),
            (8, f"{pick(ADJECTIVES)} {pick(NOUNS)} {kind}"),
            (6, f"{pick(ADJECTIVES)} {kind}"),
            (4, f"{pick(ADJECTIVES)} {pick(NOUNS)}"),
            (3, f"{pick(ADJECTIVES)}{pick(NOUNS)}" + pick(["", f" {kind}"])),
            (7, f"{saint} {clinic}"),
            (4, f"{body} {pick(CITIES)}"),
            (3, f"{last} {pick(['&', 'and'])} {pick(['Sons', 'Co.', 'Company', 'Daughters', 'Brothers'])}"),
            (3, pick(GENERAL_ORGS).removeprefix("the ")),
            (3, letters + pick(["", f" {kind}"])),
            (7, f"{pick(CITIES)} {kind}"),
        ]
        return self.random.choices([way for _, way in ways], [weight for weight, _ in ways])[0]

    def school(self) -> str:
        pick, last = self.random.choice, self.random.choices(*self._lasts)[0]
        return pick(
            [
                f"University of {pick(CITIES)}",
                f"{pick(CITIES)} University",
                f"{last} University",
                f"{last} High School",
                f"{pick(CITIES)} State University",
                f"{last} College",
                f"{last} Elementary School",
                f"{pick(CITIES)} Institute of Technology",
                f"St. {pick(['Mary', 'John', 'Paul', 'Anne'])}'s School",
                f"{last} Academy",
                f"{pick(ADJECTIVES)} {pick(NOUNS)} Middle School",
                pick(["MIT", "Stanford", "UCLA", "Harvard", "Yale", "Oxford University", "NYU", "Caltech"]),
            ]
        )

    def job(self) -> str:
        pick, roll = self.random.choice, self.random.random()
        if roll < 0.4:
            return pick(SINGLE)
        level = pick(
            ["", "", "", "Senior ", "Lead ", "Junior ", "Chief ", "Principal ", "Assistant ", "Associate ", "Sr. "]
        )
        if roll < 0.9:
            return f"{level}{pick(FIELDS)} {pick(HEADS)}"
        return f"{pick(['VP of', 'Director of', 'Head of', 'Vice President,', 'Manager of'])} {pick(FIELDS)}"

    def matter(self, slot: str) -> str:
        """Text of a slot that is never to be found."""
        pick, number = self.random.choice, self.random.randint
        if slot == "date":
            month = pick(LONG_MONTHS)
            return pick(
                [
                    f"{month} {number(1, 28)}, {number(1950, 2026)}",
                    f"{number(1, 12)}/{number(1, 28)}/{number(1950, 2026)}",
                    f"{number(1950, 2026)}-{number(1, 12):02}-{number(1, 28):02}",
                    f"{number(1, 28)} {month[:3]} {number(1990, 2026)}",
                ]
            )
        if slot == "addr":
            kind = pick(["St", "Ave", "Rd", "Street", "Avenue", "Drive", "Dr", "Lane", "Blvd", "Court"])
            return f"{number(1, 9999)} {pick(STREETS)} {kind}, {pick(CITIES)}, {pick(STATES)} {number(10000, 99999)}"
        if slot == "email":
            first, last = pick(self._firsts[0]).lower(), pick(self._lasts[0]).lower()
            name = pick([f"{first}.{last}", first[0] + last, f"{first}{number(1, 99)}"])
            return f"{name}@{pick(['gmail.com', 'mail.com', 'corp.example.com', 'yahoo.com'])}"
        if slot == "user":
            return pick(["admin", "root", "ops", "user", pick(self._firsts[0]).lower()]) + pick(
                ["", f"_{number(1, 9999)}", str(number(1, 99))]
            )
        word = pick(WORDS)
        made: dict[str, str] = {
            "city": pick(CITIES),
            "month": pick(LONG_MONTHS),
            "time": f"{number(0, 23):02}:{number(0, 59):02}",
            "num": str(number(2, 9999)),
            "phone": pick(
                [
                    f"+1 ({number(200, 999)}) {number(200, 999)}-{number(1000, 9999)}",
                    f"{number(200, 999)}-{number(200, 999)}-{number(1000, 9999)}",
                ]
            ),
            "prod": pick(PRODUCTS),
            "lib": pick(LIBRARIES),
            "id": pick(
                [
                    f"MRN-{number(1000, 999999)}",
                    f"{number(10**7, 10**8):x}",
                    f"INV-{number(1000, 99999)}",
                    f"{number(1, 99)}-CV-{number(100, 9999)}",
                ]
            ),
            "ip": ".".join(str(number(1, 254)) for _ in range(4)),
            "word": word,
            "Word": word.capitalize(),
            "org": pick(GENERAL_ORGS),
        }
        return made[slot]

    def fill(self, template: str) -> tuple[str, list[tuple[int, int, str]]]:
        """A text and what is to be found in it: (start, end, label)."""
        people = [self.person() for _ in range(4)]
        parts: list[str] = []
        spans: list[tuple[int, int, str]] = []
        end = size = 0
        for match in SLOT.finditer(template):
            before = template[end : match.start()].replace("{{", "{").replace("}}", "}")
            parts.append(before)
            size += len(before)
            end = match.end()
            text, prefix = self._slot(match[1], people[int(match[2] or 0)])
            parts.append(prefix + text)
            if match[1] in LABELS:
                spans.append((size + len(prefix), size + len(prefix) + len(text), LABELS[match[1]]))
            size += len(prefix) + len(text)
        parts.append(template[end:].replace("{{", "{").replace("}}", "}"))
        return "".join(parts), spans

    def _slot(self, slot: str, person: Person) -> tuple[str, str]:
        """The text of a slot, and what stands before it but does not belong to it."""
        pick = self.random.choice
        simple = {
            "P": person.full,
            "F": person.first,
            "L": person.last,
            "W": person.first.lower() + pick(["", f" {person.last.lower()}"]),
        }
        if slot in simple:
            return simple[slot], ""
        if slot == "H":
            return person.last, pick(HONORS) + " "
        if slot == "R":
            return f"{person.last}, {person.first}" + pick(["", f" {person.middle[0]}."]), ""
        if slot == "U":
            return pick(
                [
                    f"{person.last}, {person.first}",
                    f"{person.first} {person.last}",
                    f"{person.first} {person.middle[0]}. {person.last}",
                ]
            ).upper(), ""
        if slot == "w":
            return person.first.lower(), ""
        if slot in "OSJKC":
            text = {"O": self.organisation, "S": self.school, "J": self.job, "K": self.job}.get(
                slot, lambda: pick(CITIES)
            )()
            return (text.lower() if slot == "K" and not text[:3].isupper() else text), ""
        return self.matter(slot), ""


def documents(fillers: Fillers, count: int, families: list[str]) -> list[tuple[str, list[tuple[int, int, str]], str]]:
    """Texts with what is to be found and their family: one to three templates of one family each."""
    made: list[tuple[str, list[tuple[int, int, str]], str]] = []
    for _ in range(count):
        family = fillers.random.choice(families)
        text, spans = "", []
        for template in fillers.random.sample(FAMILIES[family], fillers.random.choice([1, 1, 2, 3])):
            if text:
                text += fillers.random.choice(
                    ["\n", "\n\n", " "] if family in ("prose", "nothing", "legal", "clinical") else ["\n", "\n\n"]
                )
            more, found = fillers.fill(template)
            spans += [(start + len(text), end + len(text), label) for start, end, label in found]
            text += more
        made.append((text, spans, family))
    return made
