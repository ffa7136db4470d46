"""The stack in NumPy, and the compiled one, which gives the same."""

import pickle
from itertools import product

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tabular.online.activations import ACTIVATIONS
from tupelo.tabular.online.backward import gradients
from tupelo.tabular.online.engine import CompiledStack
from tupelo.tabular.online.estimator import LAYERS
from tupelo.tabular.online.kernels import Options
from tupelo.tabular.online.stack import Stack, forward
from tupelo.tabular.online.triplets import Memory

OPTIONS = Options(
    *(1e-2, 2e-3, 1.0, True, False, False),
    *(0.1, 1.0, 1e-2, 1 / 3, 1e-3),
)
RNG = np.random.default_rng(0)
CODES = np.concatenate([np.arange(4), RNG.integers(4, size=96)])
ROWS = {d: RNG.normal(size=(100, d)) + 0.4 for d in (5, 19)}
STRATEGIES = ("fp", "bp", "fbp")


def learned(
    stack, options=OPTIONS, *, chunk=None, rows=None, unit=True, negative="author", cold_start=False
):
    """Feed a stream to a stack, in chunks."""
    X = ROWS[stack.layers[0].L.shape[0] if isinstance(stack, Stack) else stack.d]
    X = X if rows is None else rows
    memory = Memory(stack.width, negative, cold_start, seed=0)
    memory.make_room(4)
    for start in range(0, len(X), chunk or len(X)):
        part = slice(start, start + (chunk or len(X)))
        stack.learn(X[part], CODES[part], memory, options, unit=unit)
    return stack


def both(layer, n_layers, d, activation="relu", strategy="fp"):
    shape = n_layers, d, activation, strategy
    return Stack(LAYERS[layer], *shape), CompiledStack(layer, *shape)


def same(one, other):
    return all((a == b).all() for a, b in zip(one.maps(), other.maps(), strict=True))


def difference(one, other):
    """Largest difference of two stacks, relative to the largest number of a layer."""
    pairs = zip(one.maps(), other.maps(), strict=True)
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_engines_learn_the_same(layer, strategy):
    for activation, n_layers, d in (("relu", 3, 19), ("tanh", 2, 5), ("sigmoid", 2, 5)):
        one, other = map(learned, both(layer, n_layers, d, activation, strategy))
        assert difference(one, other) < 1e-12
        assert one.n_updates == other.n_updates
        assert one.n_unstable == other.n_unstable
        assert not same(one, Stack(LAYERS[layer], n_layers, d, activation, strategy))


@pytest.mark.parametrize(
    ("layer", "strategy", "change"),
    [
        ("opml", "fp", {"exact": True, "gamma": 0.2}),
        ("moml", "fp", {"passive_aggressive": True, "gamma": 0.2}),
        ("opml", "fbp", {"margin": 0.3}),
        ("moml", "bp", {"margin": 0.3}),
        ("lego", "fp", {"near": 0.3, "far": 2.0}),
        ("rdml", "fbp", {"local_weight": 0.0}),
        ("opml", "bp", {"local_weight": 0.0, "weight_decay": 0.0}),
        ("opml", "bp", {"weight_decay": 0.5}),
    ],
)
def test_both_engines_take_the_same_options(layer, strategy, change):
    stacks = both(layer, 2, 5, strategy=strategy)
    one, other = (learned(stack, OPTIONS._replace(**change)) for stack in stacks)
    assert difference(one, other) < 1e-12
    usual = OPTIONS._replace(gamma=change.get("gamma", OPTIONS.gamma))
    assert not same(other, learned(CompiledStack(layer, 2, 5, "relu", strategy), usual))


@pytest.mark.parametrize("layer", LAYERS)
def test_both_engines_make_steps_safe(layer):
    """Projections and shrunk rates magnify rounding, so fewer digits agree."""
    options = OPTIONS._replace(gamma=0.4)
    one, other = (learned(stack, options) for stack in both(layer, 1, 5))
    assert one.n_unstable == other.n_unstable
    assert (one.n_unstable[0] > 0) == (layer != "lego")
    assert difference(one, other) < 1e-9


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("engine", [0, 1])
def test_chunks_make_no_difference(layer, strategy, engine):
    def run(chunk, gamma=1e-2):
        stack = both(layer, 2, 5, "relu", strategy)[engine]
        return learned(stack, OPTIONS._replace(gamma=gamma), chunk=chunk)

    whole = run(None)
    assert all(same(run(chunk), whole) for chunk in (1, 7, 100))
    assert same(run(7, gamma=0.2), run(None, gamma=0.2))


@pytest.mark.parametrize("negative", ["author", "latest", "random"])
def test_both_engines_form_the_same_triplets(negative):
    for cold_start in (False, True):
        options = {"negative": negative, "cold_start": cold_start, "rows": ROWS[5][4:]}
        one, other = (learned(stack, **options) for stack in both("opml", 1, 5))
        assert difference(one, other) < 1e-13


@pytest.mark.parametrize("layer", LAYERS)
def test_one_layer_is_the_bare_layer(layer):
    for stack in both(layer, 1, 5):
        learned(stack)
        bare = LAYERS[layer](5)
        memory = Memory(5, "author", False, 0)
        for x, code in zip(ROWS[5], CODES.tolist(), strict=True):
            found = memory.pair_up(x / np.linalg.norm(x), code)
            if found is not None:
                bare.update(memory.latest[code], found[0], found[1], OPTIONS)
        assert np.allclose(stack.maps()[0], bare.L, rtol=0, atol=1e-12)


def test_the_forward_pass_is_layer_by_layer():
    """A layer sees what the changed layer before it gives."""
    stack = learned(Stack(LAYERS["opml"], 2, 5, "relu", "fp"))
    first, second = LAYERS["opml"](5), LAYERS["opml"](5)
    memory = Memory(5, "author", False, 0)
    for x, code in zip(ROWS[5], CODES.tolist(), strict=True):
        unit = x / np.linalg.norm(x)
        found = memory.pair_up(unit, code)
        if found is not None:
            rows = np.stack([unit, *found[:2]])
            first.update(*rows, OPTIONS)
            second.update(*np.maximum(rows @ first.L.T, 0), OPTIONS)
    assert np.allclose(stack.maps()[1], second.L, rtol=0, atol=1e-13)


@pytest.mark.parametrize("strategy", ["bp", "fbp"])
@pytest.mark.parametrize("engine", [0, 1])
def test_gradient_steps_go_down_from_what_the_forward_pass_left(strategy, engine):
    stack = learned(both("opml", 2, 5, "relu", strategy)[engine])
    first, second = LAYERS["opml"](5), LAYERS["opml"](5)
    memory = Memory(5, "author", False, 0)
    for x, code in zip(ROWS[5], CODES.tolist(), strict=True):
        unit = x / np.linalg.norm(x)
        found = memory.pair_up(unit, code)
        if found is None:
            continue
        rows = np.stack([unit, *found[:2]])
        if strategy == "fbp":
            first.update(*rows, OPTIONS)
            second.update(*np.maximum(rows @ first.L.T, 0), OPTIONS)
        by_first, by_second = gradients([first.L, second.L], ACTIVATIONS["relu"], rows, OPTIONS)[0]
        first.L = first.L - OPTIONS.eta * by_first
        second.L = second.L - OPTIONS.eta * by_second
    for L, expected in zip(stack.maps(), (first.L, second.L), strict=True):
        assert np.allclose(L, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_untrained_stack_is_its_activation(activation):
    X = ROWS[5]
    maps = Stack(LAYERS["opml"], 2, 5, activation, "fp").maps()
    assert (forward(X, maps, activation) == ACTIVATIONS[activation].value(X)).all()
    assert (forward(X, maps[:1], activation) == X).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slopes_are_derivatives(activation):
    value, slope, _ = ACTIVATIONS[activation]
    s = np.array([-2.0, -0.3, 0.4, 3.0])
    numeric = (value(s + 1e-6) - value(s - 1e-6)) / 2e-6
    assert np.allclose(slope(s, value(s)), numeric, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_gradients_of_the_output_are_derivatives(activation, decay):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3, 4)) * 0.5
    maps = [np.eye(4) + 0.3 * rng.normal(size=(4, 4)) for _ in range(3)]
    options = OPTIONS._replace(local_weight=0.0, weight_decay=decay, margin=30.0)

    def value(maps):
        s = forward(rows, maps, activation)
        z = options.margin + ((s[0] - s[1]) ** 2).sum() - ((s[0] - s[2]) ** 2).sum()
        return 0.5 * max(z, 0) + decay / 2 * sum((linear**2).sum() for linear in maps)

    found, _ = gradients(maps, ACTIVATIONS[activation], rows, options)
    for i, (r, c) in product(range(3), np.ndindex(4, 4)):
        moved = [[linear.copy() for linear in maps] for _ in range(2)]
        moved[0][i][r, c] += 1e-6
        moved[1][i][r, c] -= 1e-6
        assert found[i][r, c] == pytest.approx((value(moved[0]) - value(moved[1])) / 2e-6, abs=2e-8)


def test_local_gradients_take_their_inputs_as_given():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3, 4)) * 0.5
    maps = [np.eye(4) + 0.3 * rng.normal(size=(4, 4)) for _ in range(2)]
    relu = ACTIVATIONS["relu"]
    bare = OPTIONS._replace(local_weight=0.0, weight_decay=0.0, margin=30.0)
    without, _ = gradients(maps, relu, rows, bare)
    with_local, active = gradients(maps, relu, rows, bare._replace(local_weight=0.7))
    assert active == [True, True]
    inputs = [rows, np.maximum(rows @ maps[0].T, 0)]
    for i in range(2):
        h = inputs[i]
        A = np.outer(h[0] - h[1], h[0] - h[1]) - np.outer(h[0] - h[2], h[0] - h[2])
        assert np.allclose(with_local[i] - without[i], 0.7 * 2 * maps[i] @ A)


@pytest.mark.parametrize("layer", ["moml", "rdml"])
@pytest.mark.parametrize("engine", [0, 1])
def test_gradient_steps_renew_the_inverse(layer, engine):
    stack = learned(both(layer, 2, 5, "relu", "fbp")[engine])
    if engine == 0:
        for one in stack.layers:
            assert np.allclose(one.K @ one.L, np.eye(5))
    else:
        from tupelo.tabular.online.matmul import from_panels

        for linear, K in zip(stack.maps(), stack._layers.inverses, strict=True):
            assert np.allclose(from_panels(K, 5) @ linear, np.eye(5))


@pytest.mark.parametrize("layer", ["moml", "rdml"])
def test_a_drifted_inverse_is_renewed(layer):
    from tupelo.tabular.online.loops import STEPS
    from tupelo.tabular.online.matmul import from_panels

    stack = CompiledStack(layer, 1, 5, "relu", "fp")
    stack._layers.inverses[0, :, :5, :5] += 1e-6
    learned(stack)
    stack._apply_waiting()
    assert stack._layers.counts[0, STEPS] >= 64
    K = from_panels(stack._layers.inverses[0], 5)
    assert np.allclose(K @ stack.maps()[0], np.eye(5), rtol=0, atol=1e-11)


@pytest.mark.parametrize("engine", [0, 1])
def test_a_stack_is_pickled_midway(engine):
    for layer, strategy in product(LAYERS, STRATEGIES):
        whole, half = (both(layer, 2, 5, "relu", strategy)[engine] for _ in range(2))
        memories = [Memory(whole.width, "author", False, 0) for _ in range(2)]
        parts = [(ROWS[5][:61], CODES[:61]), (ROWS[5][61:], CODES[61:])]
        for X, codes in parts:
            whole.learn(X, codes, memories[0], OPTIONS, unit=True)
            half.learn(X, codes, memories[1], OPTIONS, unit=True)
            half, memories[1] = pickle.loads(pickle.dumps((half, memories[1])))
        assert same(whole, half)
        assert whole.n_updates == half.n_updates


@pytest.mark.parametrize("engine", [0, 1])
@pytest.mark.parametrize("layer", LAYERS)
def test_infinite_layers_are_told(engine, layer):
    stack = both(layer, 1, 5)[engine]
    with pytest.raises(
        FloatingPointError, match=r"L became infinite or NaN at triplet 1 with gamma=0.01"
    ):
        learned(stack, rows=ROWS[5] * 1e160, unit=False)
    stack = both(layer, 2, 5, strategy="bp")[engine]
    with pytest.raises(FloatingPointError, match=r"at triplet \d+ with eta=1e\+30"):
        learned(stack, OPTIONS._replace(eta=1e30))


@pytest.mark.parametrize("engine", [0, 1])
@pytest.mark.parametrize("near", [0.0, 0.1])
def test_a_pair_too_long_for_lego_is_told(engine, near):
    stack = both("lego", 1, 5)[engine]
    rows = np.where(np.arange(100)[:, None] % 2, 1e90, -1e90) * np.ones(5)
    with pytest.raises(FloatingPointError, match=r"at triplet 1 with gamma=0.01"):
        learned(stack, OPTIONS._replace(near=near), rows=rows[:6], unit=False)
    assert np.isfinite(stack.maps()[0]).all()


@pytest.mark.parametrize("engine", [0, 1])
@pytest.mark.parametrize("layer", ["moml", "rdml"])
def test_a_layer_that_becomes_singular_is_told(engine, layer):
    whole = OPTIONS._replace(eta=1.0, weight_decay=1.0, local_weight=0.0)  # L <- -gradient
    with pytest.raises(FloatingPointError, match=r"at triplet 1 with gamma=0.01 and eta=1"):
        learned(both(layer, 1, 5, strategy="fbp")[engine], whole._replace(margin=1e-9))
    # a gradient step alone needs no inverse
    learned(both(layer, 1, 5, strategy="bp")[engine], whole._replace(margin=1e-9))


@pytest.mark.parametrize("engine", [0, 1])
def test_unstable_steps_can_be_refused(engine):
    with pytest.raises(InputError, match=r"gamma=0.9 is too large for this stream"):
        learned(both("opml", 1, 5)[engine], OPTIONS._replace(gamma=0.9, shrink=False))
