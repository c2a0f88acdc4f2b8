"""Makes the lexicon of Chinese names and places from MIT and Apache packages' word lists and public tables of places.

Sources, each unpacked below one folder: jieba 0.42.1 (MIT, dict.txt), jiagu 0.2.3 (MIT, model/ner.model), cpca 0.5.5
(MIT, adcodes.csv: divisions of GB/T 2260), jionlp 1.5.31 (Apache-2.0, world_location.txt), OpenCC's TSCharacters.txt
(Apache-2.0, in opencc-python-reimplemented 0.1.7). The pickle of jiagu is read by a loader that knows only `set`.
"""

from __future__ import annotations

import collections
import csv
import gzip
import hashlib
import io
import math
import pickle
import re
from pathlib import Path
from typing import Any

NER_SHA256 = "c8e8cb1f9e94af6681beb1833c428cba22674eff145f76e75a0f184b22a98391"
# By frequency in the registers of China and Taiwan; rank classes are cut from this order.
SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊"
    "白孟秦邱侯江尹薛闫雷龙段史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤赖康施牛樊葛洪伍邢尚温庄季俞章鲁倪安申乔殷颜庞易关焦左柳兰欧聂路詹祝齐辛裴管"
    "涂梅盛童穆谷凌成岳滕阮吉柴牟解苗翁时古柏宁司阎霍耿瞿辜甘蒲喻游骆窦房简车丛纪单艾迟鲍卓褚蓝娄邬桂屈黎翟鞠项祁佟傅冷华仇靳尤费卜文占褚隋"
    "臧巩麦党池曲包丘景宫宗荣米阳仲邝储戚沙花匡岑边诸木应冉查麻练全奚闵舒官佘郎晏蒙敖班盖胥贝于连粟商言栾隆封刁虞苟鄢谈冀皮庾甄柯尉敬桑位原"
    "危揭苑幸和明湛乐水占植门逄滑仝税初才禹宿化支邸缪都衣兆畅麻锁莘农寇续承帅母战展楚"
    "阚逯滑亓邸厍佴郇郗戈晁楼仉昝卞亢尧茹郜蔺訾濮逯祖闻宓乌牧山车弓郁养须"
)
COMPOUND = [
    "欧阳",
    "上官",
    "司马",
    "诸葛",
    "东方",
    "皇甫",
    "尉迟",
    "公孙",
    "令狐",
    "慕容",
    "宇文",
    "司徒",
    "长孙",
    "夏侯",
    "端木",
    "轩辕",
    "独孤",
    "南宫",
    "西门",
    "东郭",
    "百里",
    "呼延",
    "澹台",
    "公冶",
    "太史",
    "申屠",
    "仲孙",
    "钟离",
    "鲜于",
    "闾丘",
    "司空",
    "亓官",
    "司寇",
    "拓跋",
    "完颜",
    "叶赫",
    "那拉",
    "爱新",
    "纳兰",
    "第五",
    "赫连",
    "濮阳",
    "淳于",
    "单于",
    "欧陽",
    "张简",
    "范姜",
    "阿拉",
    "巴特",
    "乌兰",
    "敖日",
    "哈斯",
    "买买",
]
FOREIGN = (
    "阿埃艾爱安昂奥巴白班邦包保鲍贝本比彼毕别宾波博伯勃布查察昌彻茨达大戴黛丹道德登邓迪蒂丁东杜敦顿多厄恩尔耳法凡范菲费芬丰冯佛夫弗伏福盖甘高戈哥格葛根"
    "贡古瓜圭哈海汉豪赫黑亨洪侯胡华怀惠霍基吉加贾简江杰金津京君卡凯坎康考柯科可克肯孔库夸昆拉莱赖兰朗劳勒雷黎里理莉丽利莲廉连列林琳留龙卢鲁路伦罗洛吕马玛"
    "麦曼茂梅门蒙孟米密敏明摩莫默姆穆纳娜乃奈南内尼涅宁纽农努诺欧帕派潘庞佩彭皮平珀普齐奇乔钦琼屈让热仁日荣茹儒瑞若萨塞赛桑瑟森沙莎山舍申圣施史士斯丝思"
    "司松苏索塔泰坦汤唐陶特腾提田图托陀瓦万旺威韦维魏温文沃乌武西希锡夏香肖谢辛休许雪雅亚延扬耶叶伊英尤约宰赞泽曾扎詹芝朱兹佐祖切厄迈蕾薇碧姬娅蜜琪妮"
    "嘉隆柏帝吾古丽买提江热依木孜汗玉孙迪桌央金扎西次仁旺堆卓玛巴图孟和其格那仁"
)
# Common words that are also names of counties or countries' short forms: they need a suffix or a form around them.
AMBIGUOUS = frozenset(
    [
        "和平",
        "朝阳",
        "东方",
        "新城",
        "城区",
        "郊区",
        "市区",
        "南部",
        "安定",
        "兴安",
        "长安",
        "永安",
        "通道",
        "东区",
        "西区",
        "合作",
        "大通",
        "开放",
        "高新",
        "中心",
        "新区",
        "城关",
        "城中",
        "城东",
        "城西",
        "城北",
        "桥东",
        "桥西",
        "路北",
        "路南",
        "中原",
        "河南",
        "河东",
        "河西",
        "山南",
        "海南",
        "白云",
        "永定",
        "新华",
        "解放",
        "青年",
        "前进",
        "向阳",
        "友好",
        "宝山",
        "明水",
        "清河",
        "建设",
        "胜利",
        "文化",
    ]
)


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "set"):
            return set
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a table of weights")


def ner(folder: Path) -> dict[str, dict[str, float]]:
    """The weights of jiagu's perceptron by feature and label. Raises ValueError for any file but the pinned one."""
    packed = (folder / "jiagu-0.2.3/jiagu/model/ner.model").read_bytes()
    if hashlib.sha256(packed).hexdigest() != NER_SHA256:
        raise ValueError("ner.model is not the one of jiagu 0.2.3")
    return _Plain(io.BytesIO(gzip.decompress(packed))).load()[0]


def _mark(score: float) -> str:
    """A class a..i of a score around nought."""
    return "abcdefghi"[min(8, max(0, round(score / 2.5) + 4))]


def dictionary(folder: Path) -> list[tuple[str, int, str]]:
    """Word, count and part of speech of every word of jieba's dictionary that is all Chinese."""
    rows: list[tuple[str, int, str]] = []
    for line in (folder / "jieba-0.42.1/jieba/dict.txt").read_text("utf-8").splitlines():
        word, count, tag = line.split(" ")
        if re.fullmatch(r"[\u4e00-\u9fff]+", word):
            rows.append((word, int(count), tag))
    return rows


def words(rows: list[tuple[str, int, str]], weights: dict[str, dict[str, float]]) -> dict[str, str]:
    """Four marks a word: part of speech, frequency, how names follow it, how names precede it."""
    made: dict[str, str] = {}
    for word, count, tag in rows:
        if len(word) > 4 and tag[:2] != "nr":
            continue
        if count < (5 if len(word) == 2 else 12) and not (tag == "nrt" and count >= 3):
            continue
        # Ordinary people's names in the dictionary would teach the judge that names are listed.
        if tag == "nr" and len(word) <= 4 and word[0] in SURNAMES and count < 400:
            continue
        kind = {"nrt": "t", "nr": "r", "nrfg": "r", "ns": "s", "nt": "z", "nz": "z"}.get(tag, tag[0])
        frequency = str(min(9, int(math.log2(count) / 1.7)))
        sides: list[str] = []
        for name in (f"i-1 word {word}", f"i+1 word {word}"):
            row = weights.get(name, {})
            sides.append(_mark(row.get("B-PER", 0.0) - row.get("O", 0.0)) if row else "e")
        made[word] = kind + frequency + "".join(sides)
    return made


def surnames() -> dict[str, str]:
    """Rank class of every surname: a the most frequent; k compound."""
    made = dict.fromkeys(COMPOUND, "k")
    for rank, char in enumerate(dict.fromkeys(SURNAMES)):
        made[char] = "abcdefgh"[min(7, int(math.log2(rank / 10 + 1) * 1.4))]
    return made


def given(names: list[str], rows: list[tuple[str, int, str]]) -> dict[str, str]:
    """Two classes 0..9 of a character: how much more it is the second, and the last, of names than of text."""
    second: collections.Counter[str] = collections.Counter()
    last: collections.Counter[str] = collections.Counter()
    text: collections.Counter[str] = collections.Counter()
    for name in names:
        second[name[1]] += len(name) == 3
        last[name[-1]] += 1
    for word, count, tag in rows:
        if tag[:2] != "nr":
            for char in word:
                text[char] += count
    total = sum(text.values())
    made: dict[str, str] = {}
    for char in set(text) | set(last):
        marks = ""
        for side in (second, last):
            share = (side[char] + 0.3) / (sum(side.values()) + 3000)
            marks += str(min(9, max(0, round(math.log2(share / ((text[char] + 300) / total)) * 0.9 + 5))))
        if marks != "00":
            made[char] = marks
    return made


def divisions(folder: Path) -> list[str]:
    """Full names of provinces, prefectures and counties (GB/T 2260)."""
    with (folder / "cpca/resources/adcodes.csv").open(encoding="utf-8") as lines:
        return [row["name"] for row in csv.DictReader(lines)]


SUFFIX = re.compile(
    r"(?:特别行政区|(?:维吾尔|壮族|回族)?自治区|" r"\w{1,3}族自治[州县]|自治[州县旗]|[省市区县州盟旗]|地区|林区)$"
)


def places(folder: Path, rows: list[tuple[str, int, str]]) -> dict[str, str]:
    """Places: 1 known by itself, 2 also a common word, 3 from the dictionary only."""
    common = {word: count for word, count, tag in rows if tag[:2] not in ("ns", "nr", "nz", "nt")}
    made: dict[str, str] = {}
    for word, count, tag in rows:
        if tag == "ns" and 2 <= len(word) <= 8 and count >= 3:
            made[word] = "3"
    for name in divisions(folder):
        short = SUFFIX.sub("", name)
        if len(name) >= 3 and name != "市辖区":
            made[name] = "1"
        if len(short) >= 2:
            made[short] = "2" if short in AMBIGUOUS or common.get(short, 0) > 20 else "1"
    for line in (folder / "jionlp/dictionary/world_location.txt").read_text("utf-8").splitlines():
        for name in re.split(r"[\t/]", line):
            if 2 <= len(name) <= 8 and ":" not in name:
                made[name] = "1"
    for name in AMBIGUOUS:
        made[name] = "2"
    return made


def simple(folder: Path) -> tuple[str, str]:
    """Traditional characters and their Simplified forms."""
    left, right = "", ""
    for line in (folder / "opencc/dictionary/TSCharacters.txt").read_text("utf-8").splitlines():
        one, _, other = line.partition("\t")
        other = other.split(" ")[0]
        if len(one) == len(other) == 1 and one != other and one not in "乾著于徵":
            left, right = left + one, right + other
    return left, right
