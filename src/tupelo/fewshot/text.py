"""Texts as items of tasks: a vocabulary, vectors of words, and a convolutional encoder."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo.errors import InputError
from tupelo.fewshot.domains import PADDING
from tupelo.fewshot.learner import EpisodeHead
from tupelo.types import Embedded

UNKNOWN = 1  # token of words that are not in the vocabulary
WINDOWS = (3, 4, 5)
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; an apostrophe stays inside a word.

    >>> words("What's my PIN-code, please?")
    ["what's", 'my', 'pin', 'code', 'please']
    """
    return _WORD.findall(text.lower())


class Vocabulary:
    """Numbers of words: 0 is padding, 1 every word that is not known, then the words in order.

    Args:
        known: the words.

    Raises:
        InputError: a word twice, or none.

    >>> vocabulary = Vocabulary.of(["a card", "my card"])
    >>> vocabulary.encode(["my new card", "a"]).tolist()
    [[4, 1, 2], [3, 0, 0]]
    """

    def __init__(self, known: Sequence[str]):
        self.known = tuple(known)
        self._numbers = {word: number for number, word in enumerate(self.known, UNKNOWN + 1)}
        if not self.known or len(self._numbers) != len(self.known):
            raise InputError("a vocabulary needs at least one word, and each of them once")

    def __len__(self) -> int:
        return len(self.known) + UNKNOWN + 1

    @classmethod
    def of(
        cls, texts: Iterable[str], *, at_least: int = 1, at_most: int | None = None
    ) -> "Vocabulary":
        """The words of some texts, most frequent first, equally frequent ones by the alphabet.

        Args:
            texts: of the training domains; words of others count as unknown.
            at_least: occurrences of a word that is taken.
            at_most: words taken.
        """
        counts = Counter(word for text in texts for word in words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([word for word in ranked if counts[word] >= at_least][:at_most])

    def encode(
        self, texts: Sequence[str], *, max_tokens: int | None = None
    ) -> Int64[Tensor, "n length"]:
        """Token numbers, filled up with 0 to the longest text.

        Args:
            texts: at least one.
            max_tokens: longer texts are cut.

        Raises:
            InputError: no text, or one without a word.
        """
        rows = [[self._numbers.get(w, UNKNOWN) for w in words(t)][:max_tokens] for t in texts]
        empty = [text for text, row in zip(texts, rows, strict=True) if not row]
        if empty or not rows:
            shown = f"{empty[0]!r} has none" if empty else "no text was given"
            raise InputError(f"every text must have at least one token, but {shown}; leave it out")
        found = torch.full((len(rows), max(map(len, rows))), PADDING)
        for place, row in enumerate(rows):
            found[place, : len(row)] = torch.tensor(row)
        return found


def word_vectors(
    tokens: Iterable[Int64[Tensor, "_ _"]],
    size: int,
    *,
    dim: int = 100,
    window: int = 5,
    smoothing: float = 0.75,
    power: float = 0.5,
) -> Float32[Tensor, "_ _"]:
    """Vectors of words from unlabelled texts: what stands near the same words is near.

    Counts of words within a window become positive pointwise mutual information, with counts of
    contexts raised to `smoothing`; its largest singular vectors, times values to the `power`, are
    the rows, scaled to a mean square of 1 / 3, that of uniform numbers in [-1, 1]. Source: Levy,
    Goldberg, Dagan, "Improving Distributional Similarity with Lessons Learned from Word
    Embeddings", TACL 2015, whose settings these are. With few texts it takes the place of vectors
    from a large corpus, such as GloVe; it is not as good.

    Args:
        tokens: texts as `Vocabulary.encode` gives them.
        size: of the vocabulary.
        dim: of the vectors; words that occur less than others are wide.
        window: words to each side that are near.
        smoothing: in (0, 1].
        power: of the singular values, in [0, 1].

    Returns:
        A row a token (size, dim); those of padding and of words that do not occur are 0.

    Raises:
        InputError: `dim` is not below the size of the vocabulary, or no two words occur together.
    """
    if not 1 <= dim < size:
        raise InputError(f"dim must be at least 1 and below the {size} words, got {dim}")
    counts = csr_matrix((size, size))
    for each in tokens:
        texts = each.numpy()
        for offset in range(1, window + 1):
            one, other = texts[:, :-offset].ravel(), texts[:, offset:].ravel()
            both = (one != PADDING) & (other != PADDING)
            pair = coo_matrix((np.ones(both.sum()), (one[both], other[both])), (size, size))
            counts = counts + pair.tocsr()
    counts = (counts + counts.T).tocoo()
    if counts.nnz == 0:
        raise InputError("tokens must hold texts of two words or more, got none")
    of_word = np.bincount(counts.row, counts.data, size)
    of_context = np.bincount(counts.col, counts.data, size) ** smoothing
    share = of_context[counts.col] / of_context.sum()
    information = np.log(counts.data / of_word[counts.row] / share).clip(min=0)
    positive = csr_matrix((information, (counts.row, counts.col)), (size, size))
    start = np.random.default_rng(0).normal(size=size)  # of the iteration, so that it repeats
    left, values, _ = cast(tuple[np.ndarray, ...], svds(positive, k=dim, v0=start))
    found = left[:, ::-1] * values[::-1] ** power
    found *= np.sign(found[np.abs(found).argmax(0), np.arange(dim)])  # else of either sign
    found /= np.sqrt(3 * np.square(found[of_word > 0]).mean())
    found[of_word == 0] = 0
    return torch.from_numpy(found.astype(np.float32))


class TextCNN(nn.Module):
    """Convolutions over words, the maximum of each over the text, side by side.

    Source: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014: windows of
    3, 4 and 5 words, 100 filters each, ReLU. Windows lie within the text (of shorter texts, within
    5 places), so its row does not depend on how far it is filled up beside longer ones.

    Args:
        vocabulary: size of it, with padding.
        dim: of the word vectors; not needed with `vectors`.
        filters: a window, M >= 1.
        windows: words each filter sees.
        vectors: of the words (vocabulary, dim); None: uniform in [-1, 1].
        learn_vectors: they are parameters that learn; else they stay.
        padding: the token of a place without a word.

    Raises:
        InputError: a number outside its range, `vectors` of another size, or a padding that is no
            token of the vocabulary; when called: a text without a token, or unknown tokens.

    >>> TextCNN(50, filters=4)(torch.tensor([[7, 8, 9, 0], [3, 0, 0, 0]])).shape
    torch.Size([2, 12])
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int = 100,
        filters: int = 100,
        windows: Sequence[int] = WINDOWS,
        vectors: Float[Tensor, "_ _"] | None = None,
        learn_vectors: bool = False,
        padding: int = PADDING,
    ):
        super().__init__()
        if vectors is not None:
            dim = vectors.shape[1]
            if len(vectors) != vocabulary:
                raise InputError(
                    f"vectors must have a row for each of {vocabulary} tokens, got {len(vectors)}"
                )
        if min(dim, filters, len(windows), *windows) < 1:
            raise InputError(
                "dim, filters and windows must be at least 1, got "
                f"dim={dim}, filters={filters}, windows={tuple(windows)}"
            )
        if not 0 <= padding < vocabulary:
            raise InputError(
                f"padding must be a token of the vocabulary, in 0..{vocabulary - 1}, got {padding}"
            )
        self.vocabulary = vocabulary
        self.dim = dim
        self.filters = filters
        self.windows = tuple(windows)
        self.learn_vectors = learn_vectors
        self.padding = padding
        self.num_features = filters * len(self.windows)
        self.vectors = nn.Parameter(torch.empty(vocabulary, dim), requires_grad=learn_vectors)
        with torch.no_grad():
            if vectors is None:
                self.vectors.uniform_(-1, 1)
            else:
                self.vectors.copy_(vectors)
            self.vectors[padding] = 0
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, filters, h) for h in self.windows)

    def forward(self, tokens: Int64[Tensor, "b length"]) -> Float[Tensor, "b f"]:
        """Rows (b, filters x windows) of texts."""
        there = tokens != self.padding
        length = there.sum(1)
        if bool((length == 0).any()):
            raise InputError(
                "every text must have at least one token that is not padding, got none in row "
                f"{int((length == 0).nonzero()[0])}"
            )
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.vocabulary:
            raise InputError(
                f"tokens must be in 0..{self.vocabulary - 1}, got {int(tokens.min())}.."
                f"{int(tokens.max())}; encode with the vocabulary of this network"
            )
        least = max(self.windows)
        short = least - tokens.shape[1]
        if short > 0:
            tokens = F.pad(tokens, (0, short), value=self.padding)
        vectors = F.embedding(tokens, self.vectors, padding_idx=self.padding).transpose(1, 2)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        within = length.clamp_min(least)
        rows = []
        for h, convolution in zip(self.windows, self.convolutions, strict=True):
            maps = convolution(vectors).relu()  # (b, filters, length - h + 1)
            inside = places[: maps.shape[2]] <= within[:, None] - h
            rows.append((maps * inside[:, None]).amax(2))  # nothing is below 0 after the ReLU
        return torch.cat(rows, 1)

    def options(self) -> dict:
        """The arguments that build this encoder again, without the vectors' values."""
        return {
            "vocabulary": self.vocabulary,
            "dim": self.dim,
            "filters": self.filters,
            "windows": list(self.windows),
            "learn_vectors": self.learn_vectors,
            "padding": self.padding,
        }


class TextFewShot(nn.Module):
    """An encoder of tokens and the head that compares what it gives: `FewShot` for texts.

    Args:
        encoder: from tokens (b, length) to rows (b, d), `TextCNN`.
        head: compares rows.
        vocabulary: of the tokens, kept so that the model can read texts; may be None.

    >>> from tupelo.fewshot import Matching
    >>> model = TextFewShot(TextCNN(9, filters=2), Matching())
    >>> model(torch.tensor([[2, 3]])).raw.shape
    torch.Size([1, 6])
    """

    def __init__(
        self, encoder: nn.Module, head: EpisodeHead, *, vocabulary: Vocabulary | None = None
    ):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.vocabulary = vocabulary

    def forward(self, tokens: Int64[Tensor, "b length"]) -> Embedded:
        """Embed texts."""
        return Embedded.of(self.encoder(tokens))
