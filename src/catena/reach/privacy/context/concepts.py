"""What words of a prompt are about, in both languages: possession, assets, confidence, requests, attacks, textbooks."""

from __future__ import annotations

from importlib import resources
from typing import Any

import msgspec
import re2
from msgspec import Struct


class Concept(Struct, frozen=True):
    """`meaning`: as told to a person; the patterns of both languages."""

    meaning: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]


_data = (resources.files("catena.reach.privacy") / "data" / "concepts.toml").read_bytes()
CONCEPTS = msgspec.toml.decode(_data, type=dict[str, Concept])

_TRADITIONAL = str.maketrans(
    "們個這該處產內機網絡術專業務戶員數據資訊碼庫檔導報錄議題幫審檢優調試寫設計實現問為麼從級離開雲發給讓還沒"
    "預測價購併營財務戰略競爭對應聘薪資績簡歷職辭補償勞動約糾紛訴訟協師憲遺囑簽證調協醫療癥狀診斷藥腫瘤癌憂鬱"
    "懷孕傷癒護壓糖檢驗銀賬貸債稅養產單餘額總結論顯統輸點擊應該語詞翻譯歸類舉別較優劣體積時間號門隊員會記憶執"
    "則許絕繞過濾視無關閉擬裝扮邊緣歷華東車電腦隱藏滲權層鏈條環節線錯誤異棧測標準範範圍闡釋簡單禮貌轉換樣",
    "们个这该处产内机网络术专业务户员数据资讯码库档导报录议题帮审检优调试写设计实现问为么从级离开云发给让还没"
    "预测价购并营财务战略竞争对应聘薪资绩简历职辞补偿劳动约纠纷诉讼协师宪遗嘱签证调协医疗症状诊断药肿瘤癌忧郁"
    "怀孕伤愈护压糖检验银账贷债税养产单余额总结论显统输点击应该语词翻译归类举别较优劣体积时间号门队员会记忆执"
    "则许绝绕过滤视无关闭拟装扮边缘历华东车电脑隐藏渗权层链条环节线错误异栈测标准范范围阐释简单礼貌转换样",
)
NAMES = tuple(CONCEPTS)
MEANING = {name: concept.meaning for name, concept in CONCEPTS.items()}
_CASED = {"fence", "log", "host"}


def simplified(text: str) -> str:
    """`text` with the Traditional characters of our terms in their Simplified form, of the same length."""
    if text.isascii():
        return text
    # A half of a surrogate pair, which JSON may hold, has no UTF-8 form.
    return text.encode("utf-8", "replace").decode("utf-8").translate(_TRADITIONAL)


def _made() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 128 << 20
    found: Any = re2.Set.SearchSet(options)
    for name, concept in CONCEPTS.items():
        english, chinese = "|".join(concept.english), "|".join(concept.chinese)
        if name in _CASED:
            found.Add(f"{english}|{chinese}")
        else:
            start = "" if english.startswith("^") else r"\b"
            found.Add(rf"(?i){start}(?:{english})(?:\b|\W)|{chinese}")
    found.Compile()
    return found


_set = _made()


def concepts_of(text: str) -> list[str]:
    """Names of the concepts that `text` (simplified) touches, in one pass whose time is linear in its length."""
    return [NAMES[place] for place in sorted(_set.Match(text) or ())]
