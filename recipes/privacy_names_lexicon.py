"""Makes the lexicon of names: classes of words from public-domain census counts, Faker's locales and counted prose.

Sources: US Census Bureau 1990 name frequencies (public domain; as carried by the MIT package `names`), the locales of
Faker (MIT), counts of words in documentation installed on this machine (facts; no text is kept), lists written here.
"""

from __future__ import annotations

import collections
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import faker.providers.person as people

MONTHS = """january february march april may june july august september october november december monday
tuesday wednesday thursday friday saturday sunday jan feb mar apr jun jul aug sep sept oct nov dec
mon tue tues wed thu thur thurs fri sat sun"""
HONORIFICS = """mr mrs ms miss mx dr prof professor judge justice sir madam dame lord lady rev reverend fr sister
brother capt captain sgt sergeant lt lieutenant col colonel gen officer detective attorney hon
honorable senator congressman congresswoman herr frau monsieur madame mme mlle m. señor señora sr
sra srta dott signor signora don doña doctor nurse pastor rabbi imam coach chairman chairwoman
president ceo mayor governor minister ambassador uncle aunt auntie grandma grandpa counselor
advocate esq jr phd md rn dds mba cpa"""
ORG_PARTS = """inc llc ltd corp corporation company co gmbh ag plc lp llp sa srl spa bv nv ab oy aps kg pty pvt
group holdings holding partners associates industries enterprises systems technologies technology
solutions labs laboratory laboratories services consulting consultants logistics pharmaceuticals
pharma bank bancorp financial capital insurance hospital clinic medical healthcare health center
centre university college school academy institute institution foundation church ministries
association society agency department bureau ministry council committee authority commission board
office airlines airways motors foods energy media studios studio entertainment networks network
software electronics robotics analytics dynamics international global worldwide national federal
trust fund union club team bros brothers sons firm llp chambers court hotel hotels restaurant cafe
store stores market markets pharmacy dental orthopedics pediatrics cardiology oncology surgery
polytechnic elementary kindergarten seminary library museum gallery orchestra theatre realty
properties construction builders engineering manufacturing steel textiles chemicals materials
mining oil gas petroleum power electric utilities telecom communications wireless mobile digital
interactive ventures investments securities advisors wealth management brokers exchange payments
retail wholesale distributors imports exports shipping freight transport railways trucking travel
tours publishing press news broadcasting biotech biosciences genomics diagnostics therapeutics
science sciences research aerospace defense security cyber cloud data ai semiconductor
semiconductors devices instruments precision marine farms dairy brewery winery bakery apparel
fashion cosmetics toys sports fitness games gaming auto automotive tire aviation rentals leasing
staffing recruiting legal law tax accounting audit architects design creative marketing
advertising"""
JOB_PARTS = """engineer developer manager director analyst administrator architect consultant designer specialist
officer coordinator assistant associate accountant auditor advisor adviser agent representative
supervisor technician scientist researcher professor lecturer teacher instructor tutor principal
dean nurse physician surgeon doctor dentist pharmacist therapist psychologist psychiatrist
counselor paramedic veterinarian radiologist cardiologist oncologist pediatrician neurologist
dermatologist anesthesiologist midwife optometrist chiropractor attorney lawyer paralegal
solicitor barrister judge clerk secretary receptionist chef cook baker waiter waitress bartender
barista cashier salesperson salesman buyer planner strategist writer editor journalist reporter
photographer videographer producer actor musician artist illustrator animator translator
interpreter librarian curator electrician plumber carpenter welder mechanic machinist driver pilot
captain dispatcher courier warehouse foreman contractor builder surveyor geologist chemist
physicist biologist mathematician statistician economist actuary broker trader banker teller
underwriter adjuster investigator inspector detective sergeant firefighter policeman soldier guard
janitor cleaner housekeeper nanny gardener farmer fisherman tailor hairdresser stylist beautician
realtor president vice chairman founder cofounder ceo cto cfo coo cmo cio ciso vp svp evp head
chief lead senior junior staff principal intern trainee apprentice executive operations marketing
sales product project program software hardware data database network systems security quality
compliance risk human resources hr financial legal medical clinical research business account
customer success support technical devops backend frontend fullstack site reliability machine
learning counsel partner owner operator superintendent postdoc fellow resident registrar
consultant caseworker social worker bookkeeper controller treasurer recruiter trainer coach pastor
priest minister rabbi librarian steward attendant technologist assembler programmer tester
administrator archivist buyer geophysicist hydrologist ecologist nutritionist dietitian
phlebotomist hygienist"""
NATIONS = """american british english french german italian spanish portuguese dutch swedish norwegian danish
finnish polish russian ukrainian czech hungarian romanian greek turkish arabic hebrew persian
hindi bengali tamil urdu chinese japanese korean vietnamese thai indonesian malay european african
asian latin australian canadian mexican brazilian indian irish scottish welsh swiss austrian
belgian christian muslim jewish catholic protestant buddhist western eastern northern southern
gaelic roman victorian gothic medieval"""
PLACES = """london paris berlin madrid rome vienna amsterdam brussels lisbon dublin oslo stockholm copenhagen
helsinki warsaw prague budapest athens istanbul moscow kyiv cairo lagos nairobi johannesburg
mumbai delhi bangalore bengaluru chennai hyderabad kolkata pune tokyo osaka kyoto seoul busan
beijing shanghai shenzhen guangzhou taipei singapore bangkok jakarta manila hanoi sydney melbourne
brisbane perth auckland toronto vancouver montreal ottawa calgary chicago boston seattle portland
denver dallas houston atlanta miami philadelphia phoenix detroit minneapolis cleveland baltimore
pittsburgh sacramento oakland nashville memphis orlando tampa cincinnati milwaukee albuquerque
tucson omaha tulsa springfield georgetown alabama alaska arizona arkansas california colorado
connecticut delaware florida georgia hawaii idaho illinois indiana iowa kansas kentucky louisiana
maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada
hampshire jersey mexico york carolina dakota ohio oklahoma oregon pennsylvania rhode tennessee
texas utah vermont virginia washington wisconsin wyoming america england france germany italy
spain portugal netherlands belgium switzerland austria sweden norway denmark finland poland
ukraine russia turkey greece israel iran iraq india pakistan bangladesh nepal china japan korea
vietnam thailand indonesia malaysia philippines australia canada brazil argentina chile peru
colombia egypt nigeria kenya ethiopia ghana morocco europe asia africa scotland wales ireland
britain manchester liverpool birmingham leeds glasgow edinburgh bristol cardiff munich hamburg
frankfurt cologne stuttgart zurich geneva milan naples turin venice florence barcelona valencia
seville lyon marseille bordeaux toulouse nice rotterdam antwerp gothenburg krakow brooklyn queens
manhattan bronx austin columbus jacksonville charlotte indianapolis louisville raleigh richmond
buffalo rochester albany hartford providence newark trenton honolulu anchorage boise spokane
tacoma fresno pasadena wyoming dubai riyadh doha abu dhabi tehran baghdad karachi lahore islamabad
dhaka kathmandu colombo"""
# Given names of languages whose Faker locale is written in their own script: romanised, from general knowledge.
ROMANISED_FIRST = """wei fang ming xiao li jing yan hong jun lei qiang yong jie tao bin xin yu yuxuan zihan haoran
yichen xinyi mei ling hui xia ying jian ping guo hao chen feng zhen shan min minjun seojun jiho
jiwoo hyun sung jae young minho jisoo eunji yuna soo jin kyung hye haruto yuto sota yui hina akari
takashi hiroshi kenji yuki sakura aiko naoko yoko keiko kazuko satoshi daisuke ryo kaito rin mio
ahmed mohammed muhammad mohamed ali hassan hussein omar fatima aisha khadija zainab youssef yusuf
ibrahim khalid abdullah abdul rahman layla mariam maryam amina noor salma samir tariq karim nadia
leila hamid mustafa mahmoud bilal imran usman faisal saad rania huda priya rahul amit anjali
deepak sunita raj rajesh suresh ramesh vijay sanjay anil kavita neha pooja ravi arjun rohan aarav
vivaan aditya ananya diya ishaan krishna lakshmi meena nikhil pradeep shreya sneha swati vikram
vivek nguyen anh minh duc linh thao trang tuan hung huong lan phuong quang thanh olena oksana
andriy dmytro volodymyr serhiy iryna natalia svetlana olga tatiana dmitry sergei vladimir alexei
mikhail ivan nikolai yuri boris anastasia ekaterina igor oleg pavel kwame kofi ama abena chidi
ngozi emeka oluwaseun adebayo folake thabo sipho nomsa lerato zanele giorgos dimitris eleni
katerina yannis nikos moshe david yael noa avi shlomo rivka tamar"""
ROMANISED_LAST = """wang li zhang liu chen yang zhao huang zhou wu xu sun hu zhu gao lin he guo ma luo liang song
zheng xie han tang feng yu dong xiao cheng cao yuan deng fu shen zeng peng lu su jiang cai jia
ding wei xue ye yan pan du dai xia zhong tian ren fan fang shi yao kim lee park choi jung kang cho
yoon jang lim shin kwon hwang ahn sato suzuki takahashi tanaka watanabe ito yamamoto nakamura
kobayashi kato yoshida yamada sasaki yamaguchi matsumoto inoue kimura hayashi shimizu saito mori
abe ikeda hashimoto ishikawa ogawa okada fujita goto hasegawa murakami kondo endo singh kumar
sharma verma gupta patel shah mehta reddy rao nair iyer menon pillai mukherjee banerjee chatterjee
das bose ghosh sen joshi desai kulkarni deshmukh patil chauhan yadav mishra pandey tiwari dubey
agarwal khan ahmad hussain malik chaudhry qureshi siddiqui hashmi nguyen tran le pham hoang phan
vu vo dang bui do ho ngo duong ly ivanov petrov sidorov kuznetsov smirnov popov volkov sokolov
novikov fedorov morozov kovalenko shevchenko bondarenko tkachenko papadopoulos georgiou nikolaidis
cohen levi mizrahi peretz biton katz friedman okafor okonkwo adeyemi mensah owusu nkosi dlamini
ndlovu khumalo mokoena hassan haddad khoury mansour nasser saleh farouk rahman najjar"""
NICKNAMES = """bob bobby rob robby bill billy will liz beth betty lizzie kate katie kathy jim jimmy jack johnny
mike mikey mick dave davy tom tommy dick rick ricky rich chris christy tony andy drew nick joe
joey sam sammy dan danny matt greg jeff steve stevie ed eddie ted teddy ben benny alex sandy sasha
meg maggie peggy sue susie nan nancy pat patty trish tina jenny jen becky debbie deb barb cindy
mandy vicky ronnie donnie larry terry jerry gerry ken kenny ray ron phil pete al frank frankie
charlie chuck hank harry fred freddie walt gus max zach zack josh jake nate luke abby ally allie
angie carrie cathy connie dottie ellie emmy gabby izzy jackie jess jo josie kim kris lexi lilly
lou lucy mia millie mimi molly nat nell nina nora penny roxy sadie sally sara shelly steph tess
theo tim timmy val vince wes xander"""
NAME_PARTS = re.compile(r"[^\W\d_]{2,}")


def locales() -> dict[str, tuple[list[str], list[str]]]:
    """First and last names by locale of Faker."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for module in pkgutil.iter_modules(people.__path__):
        provider = importlib.import_module(f"faker.providers.person.{module.name}").Provider
        first: set[str] = set()
        last: set[str] = set()
        for attribute in sorted(dir(provider)):
            value = getattr(provider, attribute)
            if isinstance(value, tuple | list | dict) and "format" not in attribute:
                words = {word for word in value if isinstance(word, str) and "{" not in word}
                is_given = "romanized" in attribute and "last" not in attribute
                if is_given or "first" in attribute:
                    first |= words
                elif "last" in attribute:
                    last |= words
        found[module.name] = sorted(first), sorted(last)
    return found


def census(folder: Path, name: str) -> list[tuple[str, float]]:
    """Names of one file of the 1990 census with their share of the population in per cent, most frequent first."""
    rows = [line.split() for line in (folder / name).read_text(encoding="ascii").splitlines()]
    return [(row[0].lower(), float(row[1])) for row in rows if row]


def prose(limit: int = 60_000_000) -> list[str]:
    """Texts of documentation installed here, at most `limit` characters: manuals, READMEs, docstrings, sources."""
    texts: list[str] = []
    total = 0
    roots = [Path("/usr/share/doc"), Path("/usr/share/perl"), Path("/usr/lib/python3"), Path(sys.prefix) / "lib"]
    for root in roots:
        taken = 0
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".md", ".rst", ".txt", ".pod", ".json", ".html") or path.name.startswith(
                "README"
            ):
                if "faker" in path.parts or "nicknames" in path.parts or "names" in path.parts:
                    continue
                try:
                    text = path.read_text(encoding="utf-8")[:40_000]
                except (OSError, UnicodeDecodeError):
                    continue
                texts.append(text)
                taken += len(text)
                if taken > limit // 2:
                    break
        total += taken
    print(f"prose: {len(texts)} files, {total:,} characters")
    return texts


def counted(texts: list[str]) -> tuple[dict[str, int], set[str]]:
    """Common words with 1 to 3 for how common, and words that are capitalised amid sentences, from whole texts."""
    lower: collections.Counter[str] = collections.Counter()
    capital: collections.Counter[str] = collections.Counter()
    for text in texts:
        words = re.findall(r"([a-z,] )?\b([A-Za-z]{2,20})\b", text)
        lower.update({word for _, word in words if word.islower()})
        capital.update({word.lower() for before, word in words if before and word[0].isupper()})
    common = {word: count for word, count in lower.items() if count >= 3 and len(word) > 1}
    ranked = sorted(common, key=lambda word: (-common[word], word))[:16_000]
    files = max(1, len(texts))
    level = {word: 1 + (common[word] > files * 0.001) + (common[word] > files * 0.01) for word in ranked}
    return level, {word for word, count in capital.items() if count >= 12 and len(word) > 2}


def gathered(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """First and last names with 1 to 3 for how frequent each is."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}

    def note(table: dict[str, int], name: str, level: int) -> None:
        for word in NAME_PARTS.findall(name.lower()):
            table[word] = max(table.get(word, 0), level)

    for name, share in census(folder, "dist.male.first") + census(folder, "dist.female.first"):
        note(first, name, 3 if share >= 0.02 else 2 if share >= 0.005 else 1)
    for name, share in census(folder, "dist.all.last")[:24_000]:
        note(last, name, 3 if share >= 0.02 else 2 if share >= 0.004 else 1)
    for locale, (firsts, lasts) in locales().items():
        is_mixed = locale in ("zh_CN", "zh_TW", "ja_JP")
        for table, names, level in (
            (first, firsts, 1 if locale in ("en", "is_IS") else 2),
            (last, lasts, 2 if len(lasts) < 1200 else 1),
        ):
            for name in names:
                if name.isascii() or not is_mixed:
                    note(table, name, level)
    for table, listed in ((first, ROMANISED_FIRST + " " + NICKNAMES), (last, ROMANISED_LAST)):
        for name in listed.split():
            note(table, name, 2)
    return first, last


def make(folder: Path, texts: list[str]) -> dict[str, str]:
    """The class of every known word, lower case."""
    level, capital = counted(texts)
    first, last = gathered(folder)
    lists = {"m": MONTHS, "h": HONORIFICS, "o": ORG_PARTS, "j": JOB_PARTS, "n": NATIONS, "p": PLACES}
    sets = {mark: set(words.split()) for mark, words in lists.items()}
    known = capital - set(first) - set(last)
    classes: dict[str, str] = {}
    for word in sorted(set(first) | set(last) | set(level) | known | set[str]().union(*sets.values())):
        is_common = level.get(word, 0)
        kind = ""
        # A rare name that documentation writes in lower case all the time is a word, not a name.
        for mark, table in (("f", first), ("l", last)):
            if word in table and not (is_common == 3 and table[word] == 1):
                kind += f"{mark}{table[word]}"
        kind += f"c{is_common}" if is_common else ""
        kind += "".join(mark for mark, words in sets.items() if word in words)
        kind += "k" if word in known and not is_common else ""
        if kind:
            classes[word] = kind
    return classes
