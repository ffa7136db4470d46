"""Embed a whole data set with a trained model, and measure what came out."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tupelo import evaluation
from tupelo.errors import InputError
from tupelo.models import VAE, Autoencoded, Ensemble
from tupelo.models.modes import evaluating
from tupelo.types import Embedded

Precision = Literal["bf16-mixed", "32-true"]

PIXELS_AT_ONCE = 64 * 128 * 128  # of a batch, where its size is not given


class Embeddings(NamedTuple):
    """A data set embedded, in its own order.

    Attributes:
        z: unit rows, float32 on the CPU, (n, d).
        labels: as the data set states them, one per row.
        items: identities, (n,).
        paths: where the items came from; None for data sets made of arrays.
    """

    z: Float[Tensor, "n d"]
    labels: Any
    items: Int[Tensor, " n"]
    paths: Sequence[str] | None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured; printed, it is a table with counts.

    Attributes:
        retrieval: recall@K, precision@K, R-precision, MAP@R and their counts.
        clustering: NMI, AMI and F1 of k-means; None where it was not asked for.
        learners: of an ensemble, each by itself; None for other models.
    """

    retrieval: evaluation.RetrievalReport
    clustering: evaluation.ClusteringReport | None
    learners: evaluation.LearnersReport | None = None

    def as_dict(self) -> dict[str, float]:
        """All scores and counts under flat names such as `recall@1`, `map@r` and `nmi`."""
        more = {} if self.clustering is None else self.clustering.as_dict()
        return self.retrieval.as_dict() | more

    def __str__(self) -> str:
        lines = [str(self.retrieval)]
        if self.clustering is not None:
            c = self.clustering
            lines.append(
                f"NMI {c.nmi:.4f} ± {c.nmi_std:.4f}   AMI {c.ami:.4f} ± {c.ami_std:.4f}   "
                f"F1 {c.f1:.4f} ± {c.f1_std:.4f}   "
                f"({c.n_clusters} clusters, {c.n_items} items, {len(c.seeds)} seeds of k-means)"
            )
        if self.learners is not None:
            lines.append(str(self.learners))
        return "\n".join(lines)


def fast_precision(model: nn.Module, device: torch.device | str = "cpu") -> Precision:
    """The precision in which a network runs fastest here without harm: bf16 or float32.

    bf16 where the processor multiplies it natively (CPUs with AMX or AVX-512 BF16, GPUs that
    support it), but not for networks with depthwise convolutions, which gain nothing from it
    (docs/design.md has the measurements). Head, unit rows, distances and losses stay in float32
    either way. The rule looks at the network and the hardware alone, never at a clock, so that a
    resumed run computes what the first one did.

    Args:
        model: the network.
        device: where it will run.

    Returns:
        "bf16-mixed" or "32-true", the names of Lightning Fabric.

    >>> depthwise = nn.Conv2d(8, 8, 3, groups=8)
    >>> fast_precision(depthwise)
    '32-true'
    """
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    depthwise = any(
        isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for module in model.modules()
    )
    return "bf16-mixed" if native and not depthwise else "32-true"


def embed(
    model: nn.Module,
    dataset,
    *,
    batch_size: int | None = None,
    precision: Literal["auto"] | Precision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Embed every item of a data set, in order, without gradient and without augmentation.

    The next batch is read while the network works on this one. The model is in evaluation mode
    meanwhile, and every part of it in its former mode afterwards.

    Args:
        model: from pictures to `Embedded`, or to one per learner (their rows are joined).
        dataset: an `ImageSet`, or anything with `len`, `labels` and `batch(indices)`.
        batch_size: pictures at once; default as many as make about a million pixels.
        precision: "auto" asks `fast_precision`; else "bf16-mixed" or "32-true".
        progress: called with (items done, items in all) after each batch.

    Raises:
        InputError: the data set is empty, `batch_size` is below 1, or `precision` is unknown.

    >>> from tupelo.models import embedder
    >>> from tupelo.data import ImageSet
    >>> images = torch.randint(256, (6, 1, 28, 28), dtype=torch.uint8)
    >>> dataset = ImageSet.from_arrays(images.numpy(), [0, 0, 1, 1, 2, 2])
    >>> embed(embedder("convnet", dim=16, channels=1), dataset).z.shape
    torch.Size([6, 16])
    """
    n = len(dataset)
    if n == 0:
        raise InputError("the data set to embed must hold at least one item, got 0")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if precision not in ("auto", "bf16-mixed", "32-true"):
        raise InputError(f"precision must be 'auto', 'bf16-mixed' or '32-true', got {precision!r}")
    size = batch_size or _batch_size(dataset)
    device = next(model.parameters()).device
    chosen = fast_precision(model, device) if precision == "auto" else precision
    z, items, done = [], [], 0
    with evaluating(model), torch.inference_mode():
        for batch in _prefetched(dataset, np.array_split(np.arange(n), range(size, n, size))):
            images = batch.images.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16-mixed"):
                output = model.encode(images).mean if isinstance(model, VAE) else model(images)
            z.append(rows_of(output, scales_of(model)).float().cpu())
            items.append(batch.items)
            done += len(images)
            if progress is not None:
                progress(done, n)
    # outside inference mode, so that the rows may take part in autograd
    return Embeddings(
        torch.cat(z), dataset.labels, torch.cat(items), getattr(dataset, "paths", None)
    )


def evaluate(
    model: nn.Module,
    dataset,
    *,
    gallery=None,
    shared_items: bool = False,
    ks: Sequence[int] = (1, 2, 4, 8),
    clustering: bool = True,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int | None = None,
    precision: Literal["auto"] | Precision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Embed a data set and measure retrieval and clustering on it.

    Args:
        model: from pictures to `Embedded`, or to one per learner.
        dataset: the queries; without a gallery each searches all the others.
        gallery: another data set to search. Classes of the two are matched by name where both
            have `class_names`, since each numbers its own.
        shared_items: query and gallery are parts of one data set, so that equal `items` are the
            same picture, which is then no candidate for itself.
        ks: the K of recall@K and precision@K.
        clustering: also run k-means on the embedded `dataset`, once per seed; needs one label per
            item, and takes long beyond some ten thousand items of thousands of classes.
        seeds: of k-means.
        batch_size: see `embed`.
        precision: see `embed`.
        progress: see `embed`.

    Returns:
        The reports; `str` of it is a table.

    Raises:
        InputError: see `embed` and `tupelo.evaluation.retrieval`.
    """
    options = {"batch_size": batch_size, "precision": precision, "progress": progress}
    queries = embed(model, dataset, **options)
    compared: tuple[Any, ...] = (queries.labels,)
    items: dict[str, Any] = {}
    if gallery is not None:
        searched = embed(model, gallery, **options)
        compared = (named_labels(dataset), searched.z, named_labels(gallery))
        if shared_items:
            items = {"query_items": queries.items, "gallery_items": searched.items}
    report = evaluation.retrieval(queries.z, *compared, ks=ks, **items)
    clusters = (
        evaluation.clustering(queries.z.numpy(), queries.labels, seeds=seeds)
        if clustering
        else None
    )
    return Evaluation(report, clusters, learners_of(model, queries.z, *compared, **items))


def learners_of(
    model: nn.Module,
    queries: Float[Tensor, "q d"],
    query_labels: Any,
    gallery: Float[Tensor, "g d"] | None = None,
    gallery_labels: Any = None,
    *,
    query_items: Any = None,
    gallery_items: Any = None,
) -> evaluation.LearnersReport | None:
    """Measure each learner by itself on what an ensemble embedded; None for other models.

    Arguments are those of `tupelo.evaluation.learners` without the widths.
    """
    if not isinstance(model, Ensemble):
        return None
    return evaluation.learners(
        queries,
        query_labels,
        model.learners.widths,
        gallery,
        gallery_labels,
        query_items=query_items,
        gallery_items=gallery_items,
    )


def _batch_size(dataset) -> int:
    first = dataset.batch(np.arange(1)).images
    return max(1, min(512, PIXELS_AT_ONCE // (first.shape[2] * first.shape[3])))


def _prefetched(dataset, parts: Sequence[np.ndarray]) -> Iterator[Any]:
    """Batches in order; one is being read while another is used."""
    with ThreadPoolExecutor(1, "tupelo-read") as reader:
        coming = reader.submit(dataset.batch, parts[0])
        for part in parts[1:]:
            batch, coming = coming.result(), reader.submit(dataset.batch, part)
            yield batch
        yield coming.result()


def named_labels(dataset) -> Any:
    """Labels by which two data sets agree: names of the classes where there are any."""
    names = getattr(dataset, "class_names", None)
    if names is None:
        return dataset.labels
    if dataset.labels.ndim == 1:
        return [names[label] for label in dataset.labels]
    return [{names[tag] for tag in np.flatnonzero(row)} for row in dataset.labels]


def rows_of(
    output: Embedded | Autoencoded | Sequence[Embedded], scales: Sequence[float] = ()
) -> Float[Tensor, "b d"]:
    """Unit rows of what a model returned; those of several learners are scaled and joined.

    Args:
        output: one embedding, or one for each learner.
        scales: one for each learner; () for all the same.

    >>> one, other = (Embedded.of(torch.tensor([row])) for row in ([3.0, 4.0], [1.0, 0.0]))
    >>> rows_of((one, other), scales=(1.0, 0.0))
    tensor([[0.6000, 0.8000, 0.0000, 0.0000]])
    """
    if isinstance(output, Embedded | Autoencoded):
        return output.z
    scales = scales or (1.0,) * len(output)
    joined = [scale * learner.z for learner, scale in zip(output, scales, strict=True)]
    return F.normalize(torch.cat(joined, dim=1), dim=1)


def scales_of(model: nn.Module) -> tuple[float, ...]:
    """How much each learner of an ensemble counts; () where a model does not say."""
    return model.scales if isinstance(model, Ensemble) else ()
