import numpy as np
import pytest
import torch

from tupelo.errors import InputError
from tupelo.fewshot import Matching, TextCNN, TextFewShot, Vocabulary, word_vectors, words
from tupelo.fewshot.text import UNKNOWN


def test_words():
    assert words("Don't pay $12.50 -- OK?") == ["don't", "pay", "12", "50", "ok"]
    assert words("?!") == []


def test_a_vocabulary_is_ranked_and_cut():
    texts = ["b b a", "c a b", "d"]
    assert Vocabulary.of(texts).known == ("b", "a", "c", "d")
    assert Vocabulary.of(texts, at_least=2).known == ("b", "a")
    assert Vocabulary.of(texts, at_most=1).known == ("b",)
    assert len(Vocabulary.of(texts)) == 6


def test_texts_are_filled_up_cut_and_unknown_words_known_as_such():
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.encode(["b x a", "a"]).tolist() == [[3, UNKNOWN, 2], [2, 0, 0]]
    assert vocabulary.encode(["b x a"], max_tokens=2).tolist() == [[3, UNKNOWN]]


def test_texts_without_a_token_are_refused():
    with pytest.raises(InputError, match=r"at least one token, but '\?' has none; leave it out"):
        Vocabulary(["a"]).encode(["a", "?"])
    with pytest.raises(InputError, match="at least one token, but no text was given"):
        Vocabulary(["a"]).encode([])
    with pytest.raises(InputError, match="needs at least one word, and each of them once"):
        Vocabulary(["a", "a"])


def naive(net, rows):
    """Every window of every text, one filter after the other."""
    found = []
    for row in rows:
        tokens = [t for t in row.tolist() if t != net.padding]
        tokens += [net.padding] * (max(net.windows) - len(tokens))
        vectors = net.vectors[tokens]
        maxima = []
        for h, convolution in zip(net.windows, net.convolutions, strict=True):
            for filter_, bias in zip(convolution.weight, convolution.bias, strict=True):
                sums = [
                    (vectors[i : i + h].T * filter_).sum() + bias
                    for i in range(len(tokens) - h + 1)
                ]
                maxima.append(max(max(sums).item(), 0.0))
        found.append(maxima)
    return torch.tensor(found)


def net(**options):
    torch.manual_seed(0)
    return TextCNN(20, dim=6, filters=3, **options)


def rows_of(lengths, width):
    rng = np.random.default_rng(0)
    rows = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.from_numpy(rng.integers(1, 20, length))
    return rows


@pytest.mark.parametrize("windows", [(3, 4, 5), (1,), (2, 4)])
def test_rows_are_maxima_over_windows_within_the_text(windows):
    network, rows = net(windows=windows), rows_of([1, 2, 5, 8, 9], 9)
    torch.testing.assert_close(network(rows).detach(), naive(network, rows))


def test_a_row_does_not_depend_on_how_far_it_is_filled_up():
    network = net()
    with torch.no_grad():
        for convolution in network.convolutions:
            convolution.bias += 5  # windows on nothing would win
    rows = rows_of([2, 5, 7], 12)
    torch.testing.assert_close(network(rows)[:1], network(rows[:1, :2]))
    torch.testing.assert_close(network(rows)[2:], network(rows[2:, :7]))


def test_vectors_are_taken_and_stay_or_learn():
    given = torch.randn(20, 4)
    for learns in (False, True):
        network = TextCNN(20, vectors=given, filters=2, learn_vectors=learns)
        assert torch.equal(network.vectors[1:].detach(), given[1:])
        assert not network.vectors[0].any()
        assert (network.dim, network.vectors.requires_grad) == (4, learns)
    network(rows_of([6, 6], 6)).sum().backward()
    assert network.vectors.grad.abs().sum() > 0


def test_the_published_size():
    network = TextCNN(500)
    assert network.num_features == 300
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert learned == 100 * 100 * (3 + 4 + 5) + 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": 20}, r"padding must be a token of the vocabulary, in 0\.\.19, got 20"),
        ({"padding": -1}, r"padding must be a token of the vocabulary, in 0\.\.19, got -1"),
        ({"filters": 0}, "dim, filters and windows must be at least 1, got .*filters=0"),
        ({"windows": ()}, r"dim, filters and windows must be at least 1.*windows=\(\)"),
        ({"vectors": torch.zeros(3, 4)}, "vectors must have a row for each of 20 tokens, got 3"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(InputError, match=message):
        TextCNN(20, **arguments)


def test_texts_that_cannot_be_read_are_refused():
    network = net()
    with pytest.raises(
        InputError, match="at least one token that is not padding, got none in row 1"
    ):
        network(torch.tensor([[3, 0], [0, 0]]))
    with pytest.raises(
        InputError, match=r"tokens must be in 0\.\.19, got 1\.\.20; encode with the"
    ):
        network(torch.tensor([[1, 20]]))


def test_words_in_the_same_places_get_near_vectors():
    rng = np.random.default_rng(0)
    groups = [range(2, 7), range(7, 12)]  # 5 words that replace each other, among their own context
    context = [(12, 13), (14, 15)]
    rows = []
    for _ in range(400):
        g = int(rng.integers(2))
        rows.append([context[g][0], int(rng.choice(groups[g])), context[g][1]])
    found = word_vectors([torch.tensor(rows)], 17, dim=4)
    assert found.shape == (17, 4)
    assert not found[[0, 1, 16]].any()  # padding, unknown and a word that does not occur
    unit = torch.nn.functional.normalize(found, dim=1)
    cosine = unit @ unit.T
    assert cosine[2, 3:7].min() > cosine[2, 7:12].max() + 0.3


def test_vectors_repeat_to_the_bit():
    rows = torch.from_numpy(np.random.default_rng(1).integers(2, 30, (200, 6)))
    one, other = (word_vectors([rows[:90], rows[90:]], 30, dim=5) for _ in range(2))
    assert torch.equal(one, other)


def test_vectors_are_the_singular_vectors_of_positive_information():
    rows = torch.from_numpy(np.random.default_rng(1).integers(2, 9, (60, 5)))
    rows[3, 2:] = 0
    counts = np.zeros((9, 9))
    for row in rows.tolist():
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if i != j and abs(i - j) <= 2 and one and other:
                    counts[one, other] += 1
    context = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts / counts.sum(1, keepdims=True) / (context / context.sum()))
    positive = np.where(counts > 0, np.clip(pmi, 0, None), 0)
    left, values, _ = np.linalg.svd(positive)
    wanted = left[:, :3] * np.sqrt(values[:3])
    found = word_vectors([rows], 9, dim=3, window=2).numpy()
    gram = found @ found.T
    scale = np.trace(gram) / np.trace(wanted @ wanted.T)
    np.testing.assert_allclose(gram, scale * wanted @ wanted.T, atol=1e-5)


def test_vectors_need_texts():
    with pytest.raises(InputError, match="dim must be at least 1 and below the 9 words, got 9"):
        word_vectors([torch.tensor([[2, 3]])], 9, dim=9)
    with pytest.raises(InputError, match="tokens must hold texts of two words or more, got none"):
        word_vectors([torch.tensor([[2, 0]])], 9, dim=3)


def test_a_text_learner_embeds():
    model = TextFewShot(net(), Matching(), vocabulary=Vocabulary(["a"]))
    assert model(rows_of([3, 4], 5)).raw.shape == (2, 9)
