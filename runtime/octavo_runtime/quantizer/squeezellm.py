"""SqueezeLLM (Kim et al. 2023): 16 numbers for each row, found by k-means in which each weight counts by how much the
loss feels it, and a few weights apart as they are.

What the loss feels of a weight is the Fisher information, the mean of (gradient of its output * its input)**2. Where
both factors are taken as independent (K-FAC, Martens and Grosse 2015) the first is the same for a whole row, and only
the mean square of the input tells a row's weights apart: no backward pass is needed."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantizer.inputs import Inputs
from octavo_runtime.quantizer.packing import pack_words
from octavo_runtime.quantizer.recipe import Recipe

_CODES = 16
_ROUNDS = 30
_SENSITIVE = 1 / 9  # of what is kept apart: 0.05% of 0.45%, as in the paper
_ROWS_AT_ONCE = 512


def quantize(weight: Tensor, inputs: Inputs, recipe: Recipe) -> GroupedMatrix:
    """A weight [rows, columns] float32."""
    importance = inputs.gram.diagonal().clamp(min=1e-12)
    importance = importance / importance.mean()
    apart = _kept_apart(weight, importance, recipe.outliers)
    books, values = [], []
    for rows, outliers in zip(weight.split(_ROWS_AT_ONCE), apart.split(_ROWS_AT_ONCE), strict=True):
        counts = importance.expand_as(rows).masked_fill(outliers, 0.0)
        book = _best_codebook(rows, counts).half().float()
        books.append(book)
        values.append(_nearest(rows, book).to(torch.uint8))
    codebook, codes = torch.cat(books), torch.cat(values)
    sparse = None
    if apart.any():
        lost = torch.where(apart, weight - codebook.gather(1, codes.long()), 0.0)
        places = apart.nonzero().T
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # said, so that torch does not ask for it
            sparse = torch.sparse_coo_tensor(places, lost[places[0], places[1]], weight.shape).coalesce()
    ones = weight.new_ones(len(weight), 1)
    return GroupedMatrix(codes, ones, (1, weight.shape[1]), codebook=codebook, outliers=sparse)


def stored(matrix: GroupedMatrix) -> dict[str, Tensor]:
    """The tensors of a projection, the outliers as compressed sparse rows."""
    assert matrix.codebook is not None
    found = {"qweight": pack_words(matrix.values, 4).T.contiguous(), "lookup_table": matrix.codebook}
    if matrix.outliers is None:
        return found
    rows, columns = matrix.outliers.indices()
    counts = torch.bincount(rows, minlength=len(matrix.values))
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return found | {"rows": starts.int(), "cols": columns.int(), "vals": matrix.outliers.values()}


def _kept_apart(weight: Tensor, importance: Tensor, share: float) -> Tensor:
    """[rows, columns] bool: the largest weights, and those that the loss feels most."""
    apart = torch.zeros_like(weight, dtype=torch.bool)
    count = int(share * weight.numel())
    sensitive = int(count * _SENSITIVE)
    flat = apart.view(-1)
    flat[weight.abs().flatten().topk(count - sensitive).indices] = True
    felt = (weight.square() * importance).flatten().masked_fill(flat, 0.0)
    flat[felt.topk(sensitive).indices] = True
    return apart & (weight != 0)  # which are among the largest where most are 0


def _best_codebook(weight: Tensor, counts: Tensor) -> Tensor:
    """[rows, 16], of weights [rows, columns] that count as often as `counts` says: from two beginnings, the better.
    Zeros for a row of which none counts."""
    present = counts > 0
    counts_none = ~present.any(1, keepdim=True)
    low = weight.masked_fill(~present, torch.inf).amin(1, keepdim=True).masked_fill(counts_none, 0.0)
    high = weight.masked_fill(~present, -torch.inf).amax(1, keepdim=True).masked_fill(counts_none, 0.0)
    steps = (torch.arange(_CODES, device=weight.device) + 0.5) / _CODES
    inside = torch.where(present, weight, weight.clamp(low, high))
    best, least = None, None
    for begin in (low + (high - low) * steps, inside.sort(dim=1).values[:, (steps * weight.shape[1]).long()]):
        book = _k_means(weight, counts, begin.contiguous())
        loss = ((book.gather(1, _nearest(weight, book)) - weight).square() * counts).sum(1, keepdim=True)
        if best is None or least is None:
            best, least = book, loss
        else:
            best, least = torch.where(loss < least, book, best), torch.minimum(loss, least)
    assert best is not None
    return best


def _k_means(weight: Tensor, counts: Tensor, centres: Tensor) -> Tensor:
    """Lloyd's algorithm (1982) in one dimension, all rows at once; a centre that nobody is near to stays. What is near
    to a centre lies side by side once a row is sorted, so that its sum is the difference of two sums from the row's
    beginning on: of scattered sums a GPU would bring other bits each time."""
    rising, order = weight.sort(dim=1, stable=True)
    counted = counts.gather(1, order).double()
    masses, sums = (pad(each.cumsum(dim=1), (1, 0)) for each in (counted, counted * rising))
    first, last = torch.zeros_like(order[:, :1]), torch.full_like(order[:, :1], weight.shape[1])
    for _ in range(_ROUNDS):
        ends = torch.cat((first, torch.searchsorted(rising, _between(centres), right=True), last), dim=1)
        mass, total = (each.gather(1, ends).diff(dim=1) for each in (masses, sums))
        moved = torch.where(mass > 0, (total / mass.clamp(min=1e-30)).float(), centres).sort(dim=1).values
        if moved.equal(centres):
            break
        centres = moved
    return centres


def _nearest(weight: Tensor, centres: Tensor) -> Tensor:
    """[rows, columns] int64, which of a row's rising centres [rows, 16] each weight is nearest to."""
    return torch.searchsorted(_between(centres), weight.contiguous())


def _between(centres: Tensor) -> Tensor:
    """[rows, 15]: the middle between each two neighbours of rising centres."""
    return ((centres[:, 1:] + centres[:, :-1]) / 2).contiguous()
