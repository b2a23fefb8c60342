"""What a person asks of class shares, in words: 'car>0.05,sky<=0.3' to choose by, 'car=0.1' to steer to."""

import re
import unicodedata

import torch

from SBGAN.evaluation.layout_metrics import class_proportions
from SPADE.engine.config import require

SIGNS = {">": torch.gt, ">=": torch.ge, "<": torch.lt, "<=": torch.le}
WHERE_FORM = "CLASS>SHARE (or >=, <, <=), such as car>0.05"
SHARES_FORM = "CLASS=SHARE, such as car=0.1"


def parse_where(text: str, names) -> list[tuple[int, str, float]]:
    """'car>0.05,sky<=0.3' -> [(train id, sign, share)]"""
    return parse_terms(text, names, "where", "[<>]=?", WHERE_FORM)


def parse_shares(text: str, names) -> dict[str, float]:
    """'car=0.1,sky=0.3' -> {class: share}"""
    terms = parse_terms(text, names, "shares", "=", SHARES_FORM)
    require(terms, "shares", repr(text), SHARES_FORM, "name a class")
    classes = [names[train_id] for train_id, _, _ in terms]
    twice = next((name for name in classes if classes.count(name) > 1), None)
    require(twice is None, "shares", f"{text}, where {twice} occurs twice", "one share for each class", "leave one out")
    shares = {names[train_id]: share for train_id, _, share in terms}
    wished_shares(shares, names)
    return shares


def wished_shares(shares: dict, names) -> torch.Tensor:
    """{class: share} -> float [C], NaN for classes that may have any share. Raises UserError."""
    names = list(names)
    wished = torch.full((len(names),), torch.nan)
    for name, share in shares.items():
        require(name in names, "shares", name, f"a class: {'; '.join(names)}", "take one of these")
        require(0 <= share <= 1, "shares", f"{name}={share}", SHARES_FORM, "write it so, with a share from 0 to 1")
        wished[names.index(name)] = share
    total = sum(shares.values())
    require(shares and total <= 1 + 1e-6, "shares", f"{total:g} in sum", "at most 1", "ask for less")
    wanted = "1 where every class has one"
    require(len(shares) < len(names) or total > 1 - 1e-6, "shares", f"{total:g} in sum", wanted, "leave a class out")
    return wished


def parse_terms(text: str, names, flag: str, sign: str, form: str) -> list[tuple[int, str, float]]:
    """Names may have commas and signs in them. sign: a regular expression; form: what is wanted, in words."""
    text, names = unicodedata.normalize("NFC", text), [unicodedata.normalize("NFC", name).strip() for name in names]
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    term = re.compile(rf"[\s,]*({known})\s*({sign})\s*(\d*\.?\d+(?:e-?\d+)?)\s*(?=,|$)")
    terms, end = [], 0
    while text[end:].strip(" ,"):
        found = term.match(text, end)
        if not found:
            wrong = text[end:].strip(" ,")
            name = re.match(rf"(.+?)\s*{sign}", wrong)
            require(not name or name[1] in names, flag, name and name[1],
                    f"a class: {'; '.join(names)}", "take one of these")  # fmt: skip
            refuse_share(flag, wrong, form)
        if float(found[3]) > 1:
            refuse_share(flag, found[0].strip(" ,"), form)
        terms.append((names.index(found[1]), found[2], float(found[3])))
        end = found.end()
    return terms


def refuse_share(flag: str, term: str, form: str):
    require(False, flag, term, form, "write it so, with a share from 0 to 1")


def fits(layouts, terms, num_classes):
    """Finds the layouts, of uint8 [N,1,h,w], that meet all terms: bool [N]."""
    shares = class_proportions(layouts, num_classes)
    kept = torch.ones(len(layouts), dtype=torch.bool)
    for train_id, sign, share in terms:
        kept &= SIGNS[sign](shares[:, train_id], share)
    return kept
