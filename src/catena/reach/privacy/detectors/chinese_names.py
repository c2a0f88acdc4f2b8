"""Names of people in Chinese text: by field names, by how people speak of one another, and by a judge of candidates."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from catena.reach.privacy.judging.chinese import Reader, reader
from catena.reach.privacy.spans import Span

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

# How probable a candidate must be: after a word that names follow, in a text that holds somebody's number or address of
# mail, in a message or a sentence, and in a long text, which speaks of history more often than of somebody.
LEAST_AFTER_CUE = 0.004
LEAST_PERSONAL = 0.07
LEAST = 0.50
LEAST_LONG = 0.93
LONG = 150

_FIELDS = (
    "姓名|名字|联系人|收件人|收货人|寄件人|发件人|患者|病人|家属|监护人|申请人|法定代表人|法人代表|负责人|经办人|经手人|审核人|审核|审批人|制表人|复核|记录人|"
    "持卡人|开户人|户主|投保人|被保险人|受益人|甲方|乙方|丙方|买方|卖方|委托人|代理人|原告|被告|被告人|原告人|证人|嫌疑人|犯罪嫌疑人|学生|家长|班主任|教师|导师|"
    "主治医生|主治医师|主治|医生|医师|护士|主任医师|就诊人|就诊者|受检者|员工|客户|用户|顾客|乘客|旅客|乘机人|入住人|联络人|紧急联系人|推荐人|介绍人|签名|签字|"
    "签收人|收款人|付款人|汇款人|借款人|出借人|担保人|房东|租客|承租人|出租人|业主|车主|驾驶员|司机|骑手|快递员|作者|通讯员|记者|编辑|主持人|参会人员|出席人员|"
    "父亲|母亲|配偶|丈夫|妻子|儿子|女儿|真实姓名|用户姓名|客户姓名|患者姓名|学生姓名|中文名|英文名|曾用名|昵称|称呼|投诉人|报案人|当事人|报名人|参赛者|候选人|"
    "应聘者|求职者|面试官|老师|同学|律师|经理|店长|队长|组长|主管|顾问"
)
# A field, a mark, and what fills it up to a mark: whatever it is, it is the name. Group 1 is the name.
_FILLED = re2.compile(
    rf"(?:{_FIELDS})(?:姓名)?[】\]）)\"”]?[\s\x{{3000}}]*[:：=|｜][\s\x{{3000}}]*[\"“]?"
    r"(\p{Han}{2,4}|\p{Han}{1,8}(?:[·•]\p{Han}{1,8}){1,3})"
    r"(?:\s*[,，;；。、|｜\t\r\n（(\"”\]】/\x{3000}]|[\s\x{3000}]{1,8}|[A-Za-z0-9]|先生|女士|小姐|$)",
    _OPTIONS,
)
_STANDS_ALONE = re2.compile(
    r"(?:^|[\n。；;，,、（(:：\"“《|\t /　@＠—])(\p{Han}{2,4})(?:[，,、\n；;（(:：)）\"”|\t /　—]|$|[ ]*[0-9])",
    _OPTIONS,
)
_DOTTED = re2.compile(r"\p{Han}{2,8}(?:[·•・]\p{Han}{1,8}){1,3}", _OPTIONS)
_PERSONAL = re2.compile(
    r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}|\d{15}|[\w.+-]@\w|身份证号|联系电话|手机号|住址[:：]|"
    r"患者[:：\p{Han}]{1,4}[，,]|收件人[:：]|姓名[:：]|我叫",
    _OPTIONS,
)

# In a message these speak of somebody, without a number.
_AFFAIRS = re2.compile(
    r"患者|住院|病历|诊断|护士|投诉|房东|租客|班主任|家长|转账|开户|快递|订单|申请人|参会|签字|"
    r"经手|入职|简历|预约|贷款|客服|同学|收件|寄件|我和|跟我|帮我|请假",
    _OPTIONS,
)
_CUE_WORDS = (
    "我叫|名叫|叫做|叫|本人|我是|姓名|名字是|姓名是|转给|请把|委托|通知|致电|联系|感谢|"
    "要求|找|由|给|与|和|跟|是|抄送|认识|同事|朋友|居民"
)
_CUES = (*_FIELDS.split("|"), *_CUE_WORDS.split("|"), *'、：:（(“—/，,。；;\n"\u3000')
_LED_BY = "员|我叫|名叫|叫做|我是|转给|通知|致电|感谢|要求|转账给|检查给|同事|朋友|居民|已给|上午给|下午给"
_LEADS = (*_FIELDS.split("|"), *_LED_BY.split("|"))
HONORIFICS = (
    "先生",
    "女士",
    "小姐",
    "老师",
    "医生",
    "大夫",
    "护士",
    "教授",
    "主任",
    "经理",
    "总监",
    "律师",
    "师傅",
    "同学",
    "阿姨",
    "叔叔",
    "同志",
    "警官",
    "法官",
    "校长",
    "院长",
    "书记",
    "局长",
    "处长",
    "科长",
    "老板",
    "董事长",
    "总",
)
_FOLLOWERS = (*HONORIFICS, "您好", "你好", "的身份证", "的手机", "的电话", "的快递", "的邮箱", "的个人", "（", "(")
_NOBODY = frozenset(
    [
        "本人",
        "先生",
        "女士",
        "小姐",
        "老师",
        "医生",
        "护士",
        "经理",
        "同学",
        "家长",
        "未知",
        "匿名",
        "不详",
        "保密",
        "无名",
        "暂无",
        "如下",
        "以下",
        "其他",
        "同上",
        "男性",
        "女性",
        "身份证",
        "联系",
        "电话",
        "地址",
        "邮箱",
        "手机",
        "姓名",
        "性别",
        "年龄",
        "住址",
        "单位",
        "部门",
        "职务",
        "备注",
        "日期",
        "时间",
        "签字",
        "签名",
        "盖章",
        "必填",
        "选填",
        "公司",
        "有限公司",
        "管理员",
        "系统",
        "客服",
        "用户",
        "客户",
        "患者",
        "学生",
        "员工",
        "科技",
        "请问",
        "您好",
        "你好",
        "谢谢",
        "再见",
        "好的",
        "是的",
        "不是",
        "没有",
        "可以",
        "主治",
        "已婚",
        "未婚",
        "汉族",
        "本科",
        "大专",
        "硕士",
        "博士",
        "高中",
        "初中",
        "党员",
        "群众",
        "团员",
        "名称",
        "编号",
        "类型",
        "状态",
        "字符串",
        "整数",
    ]
)


def find(text: str) -> Iterable[Span]:
    """Spans of kind person in Chinese characters; scores grow with the probability of the judge."""
    if text.isascii():
        return []
    judge = reader()
    simple = judge.simplified(text)
    is_personal = bool(_PERSONAL.search(simple)) or (len(text) <= LONG and bool(_AFFAIRS.search(simple)))
    least = LEAST_PERSONAL if is_personal else LEAST_LONG if len(text) > LONG else LEAST
    spans: list[Span] = []
    for start, end, probability in judge.people(simple, LEAST_AFTER_CUE if is_personal else least):
        if probability >= least:
            spans.append(Span(start, end, "person", _score(probability, least)))
        elif not start or simple.endswith(_CUES, 0, start) or simple.startswith(_FOLLOWERS, end):
            spans.append(Span(start, end, "person", 0.55))
    if is_personal:
        spans += _led(judge, simple)
    spans += _by_form(judge, simple, is_personal)
    return spans


def _led(judge: Reader, text: str) -> list[Span]:
    """What is made as a name between words that names stand between, whatever the judge says: 寄件人X（, X先生."""
    spans: list[Span] = []
    for start, end, _ in judge.name_candidates(text):
        is_led = text.endswith(_LEADS, 0, start)
        is_bounded = text.startswith(_FOLLOWERS, end) or not text[end : end + 1].isalpha()
        if (is_led and is_bounded) or (
            text.startswith(HONORIFICS, end) and (is_led or not text[start - 1 : start].isalpha())
        ):
            if judge.known.words.get(text[start:end], "r5")[0] in "rt":
                spans.append(Span(start, end, "person", 0.54))
        elif is_led and judge.known.given.get(text[end - 1], "00")[1] > "3":
            spans.append(Span(start, end, "person", 0.51))
    return spans


def _score(probability: float, least: float) -> float:
    """0.5 at the least probability that counts, towards 0.95 for a sure one."""
    return round(0.5 + 0.45 * (probability - least) / (1.0 - least), 3)


def _by_form(judge: Reader, text: str, is_personal: bool) -> list[Span]:
    spans: list[Span] = []
    if "：" in text or ":" in text or "=" in text or "|" in text or "｜" in text:
        spans += _filled(judge, text)
    if is_personal:
        for match in _STANDS_ALONE.finditer(text):
            if _is_name(judge, text[match.start(1) : match.end(1)]):
                spans.append(Span(match.start(1), match.end(1), "person", 0.62))
    if "·" in text or "•" in text or "・" in text:
        score = 0.6 if is_personal or len(text) <= LONG else 0.4
        spans += [Span(match.start(), match.end(), "person", score) for match in _DOTTED.finditer(text)]
    for title in HONORIFICS:
        at = text.find(title)
        while at >= 0:
            spans += _addressed(judge, text, at, at + len(title), is_personal)
            at = text.find(title, at + 1)
    if is_personal:
        spans += _familiar(judge, text)
    return spans


def _filled(judge: Reader, text: str) -> list[Span]:
    """What fills a field of a form that asks for a name."""
    spans: list[Span] = []
    for match in _FILLED.finditer(text):
        start, end = match.span(1)
        name = text[start:end]
        if name in _NOBODY:
            continue
        if surname_of(judge, name) or "·" in name:
            spans.append(Span(start, end, "person", 0.97))
        elif judge.known.words.get(name, "x")[0] in "xrt":
            spans.append(Span(start, end, "person", 0.8))
    return spans


def _familiar(judge: Reader, text: str) -> list[Span]:
    """老张, 小王: a frequent surname after 老 or 小 that runs on into no word."""
    spans: list[Span] = []
    surnames, words = judge.known.surnames, judge.known.words
    for head in "老小":
        at = text.find(head)
        while at >= 0:
            surname = text[at + 1 : at + 2]
            is_surname = surnames.get(surname, "h") in "abcd" and words.get(text[at : at + 2], "x0")[1] < "4"
            if is_surname and words.get(text[at + 1 : at + 3], "x0")[1] < "5":
                spans.append(Span(at, at + 2, "person", 0.55))
            at = text.find(head, at + 1)
    return spans


def surname_of(judge: Reader, name: str) -> int:
    """How many characters of `name` are its surname; 0 if it has none."""
    if name[:2] in judge.compounds and len(name) > 2:
        return 2
    return 1 if name[:1] in judge.known.surnames else 0


def _is_name(judge: Reader, name: str) -> bool:
    """Whether what stands alone between marks is made as names are and is no word."""
    length = surname_of(judge, name)
    if not length or name in _NOBODY or name in judge.known.places:
        return False
    if len(name) > length + 2 or any(char not in judge.known.given for char in name[length:]):
        return False
    return judge.known.words.get(name, "r")[0] in "rt"


def _addressed(judge: Reader, text: str, at: int, end: int, is_personal: bool) -> list[Span]:
    """A surname before an honorific: 王先生; the longer name before it is the judge's."""
    surnames, words = judge.known.surnames, judge.known.words
    if at >= 2 and text[at - 2 : at] in judge.compounds:
        return [Span(at - 2, end, "person", 0.72)]
    rank = surnames.get(text[at - 1 : at], "") if at else ""
    if not rank or rank > "f":
        return []
    # 总 alone is also half a word: only after a frequent surname, and where no word runs across.
    if end - at == 1 and (rank > "c" or text[at : end + 1] in words or text[at - 1 : end] in words):
        return []
    before = text[at - 2 : at - 1] if at >= 2 else ""
    is_word = bool(before) and words.get(before + text[at - 1], "x0")[1] >= "4"
    if is_word or (not is_personal and len(text) > LONG):
        return []
    return [Span(at - 1, end, "person", 0.58)]
