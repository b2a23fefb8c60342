"""Search for layouts that keep what a person fixed, or that have the class shares asked for. Nothing is trained.

From many latents the best are moved along the gradient of a cost. Pixel norm takes a latent's length, so the search
stays on the sphere of radius sqrt(latent_dim), on which nearly all draws of training lie (Menon et al., *PULSE*, CVPR
2020). Where a latent alone cannot say enough, the features of the generator's blocks get offsets: features have mean
square 1, and the mean square of an offset is paid for.
"""

import math
import re
import unicodedata
from dataclasses import dataclass

import torch

from datasets.errors import UserError
from SBGAN.discretize import HardSample, argmax, class_proportions
from SBGAN.networks import LayoutGenerator
from SPADE.engine.config import require
from SPADE.engine.images import latents
from SPADE.engine.step import frozen
from SPADE.modulation import resize

AT_ONCE = 32  # starts that are drawn together
REACH = dict(moved_blocks=3, penalty=1.0)  # of the search for fixed pixels
STEPS = 80
TYPICAL = 0.1  # of the search for shares
LATENT_RATE, FEATURE_RATE = 0.1, 0.05  # of Adam; both move what has mean square 1, and fall to 0 as a cosine


@dataclass(frozen=True)
class Found:
    """The cheapest layouts that a search has met so far."""

    log_probabilities: torch.Tensor  # [N,C,h,w]
    cost: torch.Tensor  # [N]

    @property
    def layouts(self):
        """Arg-max, uint8 [N,1,h,w] on the CPU."""
        return argmax(self.log_probabilities).cpu()

    def or_cheaper(self, other: "Found") -> "Found":
        """Takes the cheaper of both, row by row."""
        rows = other.cost < self.cost
        return Found(
            torch.where(rows[:, None, None, None], other.log_probabilities, self.log_probabilities),
            torch.where(rows, other.cost, self.cost),
        )


@dataclass(frozen=True)
class Scores:
    """Function of latents: the log-probabilities whose arg-max is the layout."""

    generator: LayoutGenerator
    class_offsets: torch.Tensor | None = None  # [C], added to the classes' log-probabilities: see `share_offsets`

    def __call__(self, z, moved=(), told=None):
        """z [N,latent_dim] -> [N,C,h,w] at full resolution.

        moved: offsets to the features of the first blocks; told: class shares [N,C], for a generator that is told them.
        """
        x = z
        for i, block in enumerate(self.generator.blocks):
            x = block(x) if i else block(x, told)  # [N,K,4*2^i,aspect*4*2^i]
            if i < len(moved):
                x = x + moved[i]
        x = self.generator.heads[-1](x).float()
        if self.class_offsets is not None:
            x = x + self.class_offsets.view(-1, 1, 1)
        return x.log_softmax(1)


def unmoved_features(generator, num: int, blocks: int) -> list:
    """Offsets of 0 for the features after each of the first blocks."""
    aspect = generator.arguments["aspect"]
    biases = [block.conv2.bias for block in generator.blocks[:blocks]]
    return [bias.new_zeros(num, len(bias), 4 << i, aspect * 4 << i) for i, bias in enumerate(biases)]


def on_sphere(z):
    """Each latent [N,D] at length sqrt(D)."""
    return z * (math.sqrt(z.shape[1]) / z.norm(dim=1, keepdim=True))


def best_starts(scores: Scores, cost, targets, seeds, starts: int, told=None):
    """The cheapest, for each target, of so many latents that are drawn from its seed, [N,D]. told: see `Scores`."""
    numbers = [(seed * starts + i) % 2**63 for seed in seeds for i in range(starts)]
    z = latents(numbers, scores.generator.latent_dim, targets.device)
    each = torch.arange(len(seeds), device=z.device).repeat_interleave(starts)  # the target of each
    with torch.no_grad():
        costs = torch.cat([
            cost(scores(some, told=None if told is None else told[of]), targets[of])
            for some, of in zip(z.split(AT_ONCE), each.split(AT_ONCE), strict=True)
        ])  # fmt: skip
    cheapest = costs.view(-1, starts).argmin(1) + torch.arange(len(seeds), device=z.device) * starts
    return on_sphere(z[cheapest])


def search(
    scores: Scores,
    cost,  # log-probabilities [N,C,h,w], targets [N,...] -> [N]
    targets,  # [N,...]: one for each layout that is wanted
    seeds,  # and as many seeds, each of the latents that its target is searched for from
    starts: int = 32,  # of these, of which the cheapest goes on
    steps: int = 100,
    moved_blocks: int = 0,  # after so many of the generator's blocks features get offsets,
    penalty: float = 0.0,  # whose mean squares cost so much
    typical: float = 0.0,  # weight of 1 - cos of the angle between a latent and its start, a draw of the prior
    told=None,  # class shares [N,C], for a generator that is told them
) -> Found:
    start = best_starts(scores, cost, targets, seeds, starts, told)
    with frozen(scores.generator), torch.enable_grad():
        z = start.clone().requires_grad_()
        moved = [zeros.requires_grad_() for zeros in unmoved_features(scores.generator, len(z), moved_blocks)]
        parameters = [{"params": [z], "lr": LATENT_RATE}, *({"params": [value], "lr": FEATURE_RATE} for value in moved)]
        optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        drawn = scores(z, moved, told)
        costs = cost(drawn, targets)  # [N]
        best = Found(drawn.detach(), costs.detach())
        for _ in range(steps):
            paid = typical * (1 - torch.cosine_similarity(z, start))
            for value in moved:
                paid = paid + penalty * value.square().mean((1, 2, 3))
            optimizer.zero_grad()
            (costs + paid).sum().backward()
            optimizer.step()
            falling.step()
            with torch.no_grad():
                z.copy_(on_sphere(z))
            drawn = scores(z, moved, told)
            costs = cost(drawn, targets)
            best = best.or_cheaper(Found(drawn.detach(), costs.detach()))
    return best


def fixed_counts(layouts, fixed, num_classes: int, rows: int, columns: int):
    """Counts the fixed pixels of each class that fall on each pixel of a coarser layout, float [N,C,rows,columns].

    layouts: train ids uint8 [N,1,H,W]; fixed: bool [N,1,H,W]. Pixels fall where nearest resizing takes them.
    """
    n, _, height, width = layouts.shape
    row = torch.arange(height, device=layouts.device) * rows // height
    column = torch.arange(width, device=layouts.device) * columns // width
    cell = (row[:, None] * columns + column).expand(n, 1, height, width)
    bins = torch.where(fixed, layouts, 0).long() * (rows * columns) + cell  # [N,1,H,W]
    counts = torch.zeros(n, num_classes * rows * columns, device=layouts.device)
    counts.scatter_add_(1, bins.flatten(1), fixed.flatten(1).float())
    return counts.view(n, num_classes, rows, columns)


def cross_entropy(log_probabilities, counts):
    """Mean over the fixed pixels of -log p of their class, [N]. counts: `fixed_counts`."""
    return -(counts * log_probabilities).sum((1, 2, 3)) / counts.sum((1, 2, 3))


def misplaced(log_probabilities, wished):
    """Sum of |share - wished share| over the classes that somebody wishes for, [N]; wished [N,C], NaN for the others.

    Shares are those of the arg-max layout, exactly; their gradient is that of the soft one.
    """
    shares = HardSample.apply(log_probabilities, 1.0).mean((2, 3))  # [N,C]
    return torch.where(wished.isnan(), 0.0, shares - wished.nan_to_num()).abs().sum(1)


def complete(scores: Scores, layout, fixed, seeds, steps: int):
    """Layouts that keep the fixed pixels and are likely elsewhere, uint8 [N,1,H,W]; and their `agreement`, float [N].

    layout: train ids uint8 [1,1,H,W], whatever they are where fixed, bool [1,1,H,W], is False.
    """
    count = int(fixed.sum())
    if count in (0, fixed.numel()):
        raise UserError(
            f"the mask fixes {'all' if count else 'none'} of the {fixed.numel()} pixels, wanted some fixed and some "
            f"free; {'free some, or invert the layout' if count else 'draw something'}"
        )
    alike = [tensor.expand(len(seeds), -1, -1, -1) for tensor in (layout, fixed)]
    drawn = matching(scores, *alike, seeds, steps)
    return torch.where(fixed, layout, drawn), agreement(drawn, layout, fixed)


def matching(scores: Scores, layouts, fixed, seeds, steps: int):
    """Draws what is most like each of the layouts uint8 [N,1,H,W] at its fixed pixels, bool [N,1,H,W]."""
    arguments = scores.generator.arguments
    classes, rows, aspect = (arguments[key] for key in ("out_channels", "max_resolution", "aspect"))
    counts = fixed_counts(layouts, fixed, classes, rows, rows * aspect)  # [N,C,h,w]
    device = next(scores.generator.parameters()).device
    found = search(scores, cross_entropy, counts.to(device), seeds, steps=steps, **REACH)
    return resize(found.layouts, *layouts.shape[2:])


def agreement(drawn, layouts, fixed):
    """Share of the fixed pixels at which what was drawn has the layout's class, float [N]."""
    return ((drawn == layouts) & fixed).sum((1, 2, 3)) / fixed.sum((1, 2, 3))


def with_shares(scores: Scores, wished, seeds, steps: int):
    """Layouts uint8 [N,1,h,w], one for each seed, whose classes have nearly the wished shares [C] (see `misplaced`).

    A generator that is told shares is told these, and for classes that nobody wishes for, shares that its latents draw.
    """
    generator = scores.generator
    wished = wished.to(next(generator.parameters()).device).expand(len(seeds), -1)  # [N,C]
    drawn = generator.shares_of(latents(seeds, generator.latent_dim, wished.device))  # [N,C], or None
    told = None if drawn is None else with_the_rest(wished, drawn)
    return search(scores, misplaced, wished, seeds, steps=steps, typical=TYPICAL, told=told).layouts


def with_the_rest(wished, drawn):
    """Fills wishes [N,C] up where they are NaN, which is any share: what is left is divided as in `drawn` [N,C]."""
    free = wished.isnan()
    rest = torch.where(free, drawn, 0.0)
    left = (1 - wished.nan_to_num().sum(1, keepdim=True)).clamp_min(0)
    return torch.where(free, rest / rest.sum(1, keepdim=True).clamp_min(1e-9) * left, wished)


# --- Class shares that a person asks for, in words: 'car>0.05,sky<=0.3' to choose by, 'car=0.1' to steer to ---

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
