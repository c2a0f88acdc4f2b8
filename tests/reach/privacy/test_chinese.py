"""Chinese names, addresses and organisations are found, followed through a text, and not where there are none."""

import pytest

from catena.reach.privacy.detectors import chinese_addresses, chinese_names, chinese_organisations
from catena.reach.privacy.echoes import chinese as echo
from catena.reach.privacy.judging.chinese import reader
from catena.reach.privacy.spans import Span, compose


def names(text: str) -> list[str]:
    return [text[span.start : span.end] for span in compose(text, chinese_names.find(text)) if span.type == "person"]


def covered(text: str, stretch: str) -> bool:
    at = text.index(stretch)
    marked = {place for span in compose(text, chinese_addresses.find(text)) for place in range(span.start, span.end)}
    return all(place in marked for place in range(at, at + len(stretch)))


@pytest.mark.parametrize(
    "text, name",
    [
        ("姓名：欧阳静怡，电话13800138000", "欧阳静怡"),
        ("联系人：仝小雨 手机：13900139000", "仝小雨"),
        ("姓名：陳怡君，住址：台北市大安區", "陳怡君"),
        ("患者：阿依古丽·买买提，女，34岁", "阿依古丽·买买提"),
        ("收件人：张伟 电话：13712345678", "张伟"),
        ("记者王晓燕报道", "王晓燕"),
    ],
)
def test_a_name_is_found_whole(text: str, name: str) -> None:
    assert name in names(text)


@pytest.mark.parametrize(
    "text",
    [
        "打开设置，选择网络，然后点击高级按钮即可完成安装。",
        "白色外壳，黄金比例，金属材质，石材纹理。",
        "高血压和糖尿病都属于慢性病，应当注意饮食。",
        "方法一：使用马达；方法二：使用温度计。",
        "周末任何时候都可以预约，成本不会增加。",
    ],
)
def test_words_that_begin_like_names_are_no_names(text: str) -> None:
    assert names(text) == []


@pytest.mark.parametrize(
    "text, address",
    [
        ("我住在上海市浦东新区世纪大道100号3栋502室。", "上海市浦东新区世纪大道100号3栋502室"),
        ("住址：重庆市哈尔滨县永川郑州街H座", "重庆市哈尔滨县永川郑州街H座"),
        (
            "送到广东省深圳市南山区科技路12号阳光小区5号楼2单元301，谢谢",
            "广东省深圳市南山区科技路12号阳光小区5号楼2单元301",
        ),
    ],
)
def test_an_address_is_covered_down_to_the_room(text: str, address: str) -> None:
    assert covered(text, address)


def test_a_place_in_neutral_text_stays_under_the_threshold_and_can_be_asked_for() -> None:
    text = "该地区位于北京市以北，属于温带季风气候，夏季高温多雨，冬季寒冷干燥。" * 4
    spans = list(chinese_addresses.find(text))
    assert any(text[span.start : span.end] == "北京市" for span in spans)
    assert all(span.score < 0.5 for span in spans)


def test_a_school_and_a_job_of_a_person_are_found() -> None:
    text = "我叫王小明，毕业于北京师范大学，担任高级工程师。"
    found = {span.type: text[span.start : span.end] for span in compose(text, chinese_organisations.find(text))}
    assert found["school"].endswith("师范大学")
    assert found["job_title"].endswith("工程师")


def test_a_name_found_once_is_found_by_title_given_name_and_spaced() -> None:
    text = "欧阳雪莹到了。欧阳女士说，雪莹很好，阿莹也好，欧 阳 雪 莹也来。"
    found = {text[span.start : span.end] for span in echo.find(text, [Span(0, 4, "person", 0.9)])}
    assert {"欧阳雪莹", "欧阳女士", "雪莹", "阿莹", "欧 阳 雪 莹"} <= found


def test_offsets_stay_where_traditional_characters_are_read_as_simplified() -> None:
    text = "聯絡人：陳怡君；電話：13800138000；聯絡人：劉國棟"
    assert len(reader().simplified(text)) == len(text)
    assert {"陳怡君", "劉國棟"} <= set(names(text))


@pytest.mark.parametrize("piece", ["王", "王王李", "北京", "克", "克里斯", "贝克·克", "省市区"])
def test_candidates_grow_no_faster_than_the_text(piece: str) -> None:
    judge = reader()

    def candidates(count: int) -> int:
        text = piece * count
        return len(judge.name_candidates(text)) + len(judge.foreign_candidates(text)) + len(judge.places(text))

    assert candidates(4000) <= 2.1 * candidates(2000) + 10


def test_text_without_chinese_costs_nothing_and_yields_nothing() -> None:
    text = "Plain ASCII with John Smith, 12 Road."
    for find in (chinese_names.find, chinese_addresses.find, chinese_organisations.find):
        assert list(find(text)) == []
