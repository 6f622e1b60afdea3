"""Random pod templates: some that no schema knows, some whose fields are Kubernetes' own."""

from typing import Any

from hypothesis import strategies as st

from octavo_operator.api.pod_schema import ROOT, TYPES

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "containers", "env", "volumes", "labels", "args", "emptyDir", "resources", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_named = {
    "containers": st.lists(st.fixed_dictionaries({"name": st.just("engine")}, optional={"env": anything})) | anything
}
_wild = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(st.sampled_from(["labels", "annotations", "x"]), anything, max_size=3),
        "spec": st.fixed_dictionaries(
            {}, optional=_named | {"volumes": anything, "tolerations": anything, "nodeSelector": anything}
        ),
    },
)

_words = st.sampled_from(
    ["engine", "cache", "tmp", "a", "A", "/tmp", "/x", "Always", "Exists", "NoSchedule", "http", "10Mi", "1", "", "-v"]
)
_numbers = st.sampled_from([0, 1, 2, 8000, 10001, 65536, 2**31, 2**64, -1])
_names = st.sampled_from(["a", "cpu", "memory", "nvidia.com/gpu", "example.com/x", "A b"])
_quantities = st.sampled_from(["1", 1, 0.5, "100m", "1Gi", "x", "-1"])
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "str": _words | _numbers,
    "datetime": st.sampled_from(["2026-01-01T00:00:00Z", "soon"]),
    "int": _numbers | st.sampled_from(["1", "x", 1.5]),
    "bool": st.booleans() | st.sampled_from(["true", "x"]),
    "intOrString": _numbers | _words,
    "quantity": _quantities,
    "quantities": st.dictionaries(_names, _quantities, max_size=2),
    "strings": st.dictionaries(_names, _words | _numbers, max_size=2),
}
_DEPTH = 5


def _of_type(type_: str, depth: int) -> st.SearchStrategy[Any]:
    """Values for a field of one of pod_schema's types, now and then null."""
    if type_.endswith("[]"):
        return st.lists(_of_type(type_[:-2], depth), max_size=2)
    if type_ in _SCALARS:
        return st.none() | _SCALARS[type_]
    if depth == _DEPTH:
        return st.just({})
    return st.deferred(lambda: _of_model(type_, depth))


def _of_model(model: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = TYPES[model]
    usual = {"name": _words} if "name" in fields else {}
    some = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
    return some.flatmap(
        lambda chosen: st.fixed_dictionaries(usual | {name: _of_type(fields[name], depth + 1) for name in chosen})
    )


templates = _wild | st.fixed_dictionaries(
    {},
    optional={"metadata": _of_type(TYPES[ROOT]["metadata"], 1), "spec": _of_type(TYPES[ROOT]["spec"], 1)},
)
