"""Samples chosen by the shares of their classes: 'car>0.05,sky<=0.3'."""

import re
import unicodedata

import torch

from SBGAN.evaluation.layout_metrics import class_proportions
from SPADE.engine.config import require

SIGNS = {">": torch.gt, ">=": torch.ge, "<": torch.lt, "<=": torch.le}


def parse_where(text: str, names) -> list[tuple[int, str, float]]:
    """'car>0.05,sky<=0.3' -> [(train id, sign, share)]; names may have commas and signs in them."""
    text, names = unicodedata.normalize("NFC", text), [unicodedata.normalize("NFC", name).strip() for name in names]
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    term = re.compile(rf"[\s,]*({known})\s*([<>]=?)\s*(\d*\.?\d+(?:e-?\d+)?)\s*(?=,|$)")
    terms, end = [], 0
    while text[end:].strip(" ,"):
        found = term.match(text, end)
        if not found:
            wrong = text[end:].strip(" ,")
            name = re.match(r"(.+?)\s*[<>]", wrong)
            require(not name or name[1] in names, "where", name and name[1],
                    f"a class: {'; '.join(names)}", "take one of these")  # fmt: skip
            refuse_share(wrong)
        if float(found[3]) > 1:
            refuse_share(found[0].strip(" ,"))
        terms.append((names.index(found[1]), found[2], float(found[3])))
        end = found.end()
    return terms


def refuse_share(term: str):
    require(False, "where", term, "CLASS>SHARE (or >=, <, <=), such as car>0.05",
            "write it so, with a share from 0 to 1")  # fmt: skip


def fits(layouts, terms, num_classes):
    """Which layouts uint8 [N,1,h,w] meet all terms: bool [N]"""
    shares = class_proportions(layouts, num_classes)
    kept = torch.ones(len(layouts), dtype=torch.bool)
    for train_id, sign, share in terms:
        kept &= SIGNS[sign](shares[:, train_id], share)
    return kept
