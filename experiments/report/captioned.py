"""Metrics of images with arbitrary captions, by a judge that predicts words.

The judge is trained on real images to tell which words their captions have. It gives the features for the
figures of `experiments/report/comparison.py`, and

    caption    share of other captions whose words fit an image worse than its own; 0.5 by chance

which measures whether words are followed, not their order or relations. With a CLIP that has both encoders as
extractor of features there is also

    clip score    100 times the cosine of image and caption in CLIP's joint space, at least 0

Prompts are captions of held-out images.
"""

from collections import Counter
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Bool, Float, Int, UInt8

from experiments.report import comparison
from experiments.report.comparison import Comparison, Seen, of_mean
from jaxflow.data.checks import stack_checked
from jaxflow.data.dataset import BLOCK, Dataset
from jaxflow.data.words import split as words_of
from jaxflow.evaluation.clip_score import clip_score
from jaxflow.evaluation.intervals import Measured
from jaxflow.evaluation.judge import train_judge
from jaxflow.evaluation.psnr import psnr
from jaxflow.pretrained.extractors import Extractor
from jaxflow.runs.requests import Request, request

Images = UInt8[np.ndarray, "n *image"]
Decode = Callable[[Images], Images]
MOST_WORDS = 512
"""Words that the judge tells apart, the most frequent ones."""
MOST_COMPARED = 1000
"""Captions compared with each other."""


class Captioned(NamedTuple):
    """Images and their captions."""

    images: Images
    captions: Sequence[str]


class Real(NamedTuple):
    """Real images to compare with."""

    train: Captioned
    test: Captioned
    held_out: bool
    """Whether the test images were held out from training."""
    prompts: Sequence[str]
    """Captions of the images to generate, of test images."""
    wanted: Request
    """The request for them."""


def read(split: Callable[[str], Dataset], captions: int, *, held_out: bool = True) -> Real:
    """Read the real images.

    Args:
        split: opens a split of the data by its name.
        captions: prompts, if there are as many held-out captions.
        held_out: whether the data have a split `test`; if not, a tenth of the training images are compared,
            which at least the judge has not seen.

    Raises:
        ValueError: the data are not those of the training, or too few.
        OSError: they are not there.
    """
    dataset = split("train")
    positions = comparison.positions_in(dataset)
    train = _load(dataset, positions)
    if held_out:
        dataset = split("test")
        positions = comparison.positions_in(dataset)
        test = _load(dataset, positions)
    else:
        order = np.random.default_rng(4).permutation(len(positions))
        tenth = max(comparison.NEIGHBOURS + 1, len(order) // 10)
        some, rest = np.sort(order[:tenth]), np.sort(order[tenth:])
        test, train, positions = _some(train, some), _some(train, rest), positions[some]
    asked = np.sort(np.random.default_rng(5).permutation(len(positions))[:captions])
    comparison.draw(_one_class(train.captions), _one_class(test.captions), _one_class(asked))
    prompts = [test.captions[i] for i in asked]
    conditions = [dataset.codec.of(example) for example in dataset.examples(positions[asked].tolist())]
    return Real(train, test, held_out, prompts, request(dataset.codec, prompts, conditions))


def _load(dataset: Dataset, positions: Int[np.ndarray, " n"]) -> Captioned:
    images, captions = np.empty((len(positions), *dataset.image_shape), np.uint8), []
    for start in range(0, len(positions), BLOCK):
        block = positions[start : start + BLOCK]
        examples = dataset.examples(block.tolist())
        if any("caption" not in example for example in examples):
            raise ValueError("evaluate: the images have neither classes nor captions, so nothing is measured")
        images[start : start + BLOCK] = stack_checked(dataset, block, examples)["image"]
        captions += [example["caption"] for example in examples]
    return Captioned(images, captions)


def _some(all_of: Captioned, positions: Int[np.ndarray, " n"]) -> Captioned:
    return Captioned(all_of.images[positions], [all_of.captions[i] for i in positions])


def _one_class(examples: Sized) -> Int[np.ndarray, " n"]:
    """Images with captions are all of one class, in which sets are random."""
    return np.zeros(len(examples), np.int64)


class Measure:
    """Figures of sets of generated images, and of real ones.

    Args:
        real: the images to compare with, on a part of which the judge is trained.
        seed: of the judge.
        steps: of its training.
        sharding: of images over devices.
        extractor: whose features are compared; if None, the judge's.
    """

    def __init__(
        self,
        real: Real,
        *,
        seed: int,
        steps: int,
        sharding: NamedSharding,
        extractor: Extractor | None = None,
    ):
        self.features = None if extractor is None else extractor.images.name
        """The published network whose features are compared; None if it is the judge."""
        train, held_out, one = map(_one_class, (real.train.captions, real.test.captions, real.prompts))
        drawn = comparison.draw(train, held_out, one)
        judged = _some(real.train, drawn.judged)
        words = words_to_tell_apart(judged.captions)
        labels = bags(judged.captions, words)
        key = jax.random.key(seed)
        judge = train_judge(key, judged.images, labels, len(words), steps=steps, sharding=sharding)
        self._look = partial(comparison.look, judge, extractor, sharding)
        self._bags = bags(real.prompts, words)
        different = len(set(real.prompts))
        self.balance = f"{len(real.prompts)} images of {different} different captions"
        """The number of images, and the balance of their labels."""
        self.counts = {"captions": different}
        """The same as numbers."""
        test = _some(real.test, drawn.real)
        self._real, self._real_bags = test.images, bags(test.captions, words)
        text = None if extractor is None else extractor.text
        embed = lambda some: None if text is None else text.encode(some).projected  # noqa: E731
        self._texts, self._real_texts = embed(real.prompts), embed(test.captions)
        self._real_seen, (_, reference) = map(self._look, (self._real, real.train.images[drawn.reference]))
        self._compare = Comparison(real.train.images, reference, self._real_seen[1], one)
        learned = words != [""] or extractor is not None
        self.warnings = self._compare.warnings(held_out=real.held_out, learned=learned)
        """Metrics that are unreliable, and why."""
        self.size = self._compare.size
        """Images of a set that is compared."""
        self.label = "real" if real.held_out else "training"
        """Name of the row of real images."""

    def real(self) -> Measured:
        """Metrics of real images."""
        return self._of_real(*self._real_seen)

    def decoded(self, decode: Decode) -> tuple[Measured, float]:
        """Metrics of real images that an autoencoder has encoded and decoded, and their median PSNR."""
        images = decode(self._real)
        return self._of_real(*self._look(images)), float(np.median(psnr(self._real, images)))

    def _of_real(self, logits: Float[np.ndarray, "n words"], seen: Seen) -> Measured:
        compared = _with_score(seen, self._real_texts, self._compare.real(seen))
        return _with_fit(logits, self._real_bags, compared)

    def __call__(self, images: Images) -> Measured:
        """Metrics of generated images, one per prompt."""
        logits, seen = self._look(images)
        return _with_fit(logits, self._bags, _with_score(seen, self._texts, self._compare(seen)))


def _with_fit(
    logits: Float[np.ndarray, "n words"], wanted: Bool[np.ndarray, "n words"], compared: Measured
) -> Measured:
    better, others = fits(logits, wanted)
    known = others.sum() > 0
    share = float(better.sum() / others.sum()) if known else float("nan")
    interval = of_mean(better[others > 0], others[others > 0]) if known else comparison.UNKNOWN
    return Measured({"caption": share} | compared.figures, {"caption": interval} | compared.intervals)


def _with_score(seen: Seen, texts: Float[np.ndarray, "n d"] | None, compared: Measured) -> Measured:
    if texts is None:
        return compared
    scores = clip_score(seen.features, texts)
    interval = of_mean(scores, np.ones(len(scores)))
    return Measured(
        compared.figures | {"clip score": float(np.mean(scores))},
        compared.intervals | {"clip score": interval},
    )


def words_to_tell_apart(captions: Sequence[str]) -> list[str]:
    """The most frequent words that occur in at least two captions, but not in all.

    If there are none, a word that no caption has: the judge then learns nothing, and its features are those
    of a random network.

    >>> words_to_tell_apart(["a cat", "a cat sits", "a dog", "a dog"])
    ['cat', 'dog']
    """
    counts = Counter(word for caption in captions for word in set(words_of(caption)))
    telling = [word for word, number in counts.items() if 2 <= number < len(captions)]
    return sorted(telling, key=lambda word: (-counts[word], word))[:MOST_WORDS] or [""]


def bags(captions: Sequence[str], words: Sequence[str]) -> Bool[np.ndarray, "n words"]:
    """Which of the words occur in each caption."""
    number, found = {word: i for i, word in enumerate(words)}, np.zeros((len(captions), len(words)), bool)
    for row, caption in zip(found, captions, strict=True):
        row[[number[word] for word in words_of(caption) if word in number]] = True
    return found


def fits(
    logits: Float[np.ndarray, "n words"], wanted: Bool[np.ndarray, "n words"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Of each image, how many captions of other words are less likely than its own, and how many there are.

    The log-likelihood of a caption is the sum of its words' logits, less a number that all captions share.

    >>> better, others = fits(np.array([[3.0, -3.0], [-3.0, 3.0]]), np.array([[True, False], [False, True]]))
    >>> better.tolist(), others.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    logits, wanted = logits[:MOST_COMPARED].astype(np.float64), wanted[:MOST_COMPARED].astype(np.float64)
    scores = logits @ wanted.T
    own = np.diagonal(scores)[:, None]
    counts = wanted.sum(axis=1)
    differ = (counts[:, None] + counts[None] - 2 * wanted @ wanted.T) > 0
    better = (scores < own) + 0.5 * (scores == own)
    return np.sum(better, axis=1, where=differ), differ.sum(axis=1).astype(np.float64)
