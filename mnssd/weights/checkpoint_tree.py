"""Finding the network's tensors in what a training script saved."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .content import OtherContent, list_names
from .pickles import Name, Object, Tensor

# Keys under which training scripts store a network, the first one present is used. Averaged weights come
# first, as in timm/models/_helpers.py, load_state_dict: they are the ones that were evaluated.
NETWORK_KEYS = (
    "state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "ema_model", "ema", "params_ema",
    "state_dict", "model_state_dict", "model_state", "model", "net", "net_state_dict", "network", "module",
    "weights", "params",
)  # fmt: skip

# Parts of names that wrappers of a module add: DataParallel and AveragedModel, torch.compile, FSDP, and
# activation checkpointing.
WRAPPER_PARTS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# torch/_utils.py: how other kinds of tensors are rebuilt.
_UNREAD_KINDS = {
    "_rebuild_qtensor": "quantized", "_rebuild_sparse_tensor": "sparse", "_rebuild_tensor_v3": "8-bit",
    "_rebuild_meta_tensor_no_storage": "empty (meta)", "_rebuild_nested_tensor": "nested",
}  # fmt: skip

MOST_DEPTH = 8
MOST_MODULES = 20_000


class FoundTensors(NamedTuple):
    """Tensors of a network by name, and where in the file they were, as keys of nested dictionaries."""

    tensors: Dict[str, Tensor]
    keys: Tuple[str, ...]
    others: Tuple[str, ...]  # other keys beside the first of `keys`


def find_tensors(content: Any) -> FoundTensors:
    """Find the state dict, or the module as a state dict, in the content of a checkpoint.

    Raises
    ------
    OtherContent
        If there is none; the message says what the file holds.
    """
    node, search = _mapping(content) or _items(content), _Search()
    keys: List[str] = []
    others: Tuple[str, ...] = ()
    while node is not None and len(keys) <= MOST_DEPTH:
        nested = [key for key, value in node.items() if isinstance(key, str) and search.holds_network(value)]
        key = next((key for key in NETWORK_KEYS if key in nested), None)
        if key is None and len(nested) == 1 and not search.is_state_dict(node):
            key = nested[0]
        if key is None:
            break
        if not keys:
            others = tuple(str(other) for other in node if other != key)
        keys.append(key)
        node = _mapping(node[key])
    tensors = _flatten(node or {}, search)
    if not tensors:
        raise OtherContent(describe(content))
    for name, value in tensors.items():
        if isinstance(value, Object):
            kind = _UNREAD_KINDS.get(value.factory.name, f"{value.factory}")
            raise OtherContent(f"holds {kind} tensors ({name}); give dense float32 or float16 weights")
    return FoundTensors(_without_wrapper_parts(tensors), tuple(keys), others)


class _Search:
    """Looks into nested dictionaries; visits each object once, however often a hostile file refers to it."""

    def __init__(self) -> None:
        self.known: Dict[int, bool] = {}
        self.mappings: List[Any] = []  # keeps them alive, so that their ids stay theirs

    @staticmethod
    def is_state_dict(mapping: Dict[Any, Any]) -> bool:
        """Whether there are tensors with the names of a network's: ``LAYER.PARAMETER``."""
        return any(isinstance(k, str) and "." in k and _is_tensor(v) for k, v in mapping.items())

    def holds_network(self, value: Any, depth: int = 0) -> bool:
        """Whether `value` is a state dict or a module, or a dictionary with one in it."""
        if id(value) in self.known:
            return self.known[id(value)]
        self.known[id(value)] = False
        mapping = _mapping(value)
        if mapping is None or "param_groups" in mapping or depth > MOST_DEPTH:  # or an optimizer
            return False
        self.mappings.append(mapping)
        found = self.is_state_dict(mapping) or any(
            self.holds_network(v, depth + 1) for k, v in mapping.items() if isinstance(k, str)
        )
        self.known[id(value)] = found
        return found


def _flatten(mapping: Dict[Any, Any], search: _Search) -> Dict[str, Any]:
    """Tensors of a dictionary, and of the networks in it under ``KEY.NAME``."""
    tensors = {str(key): value for key, value in mapping.items() if _is_tensor(value)}
    if tensors:
        return tensors
    for key, value in mapping.items():
        part = _mapping(value) if search.holds_network(value) else None
        for name, tensor in (part or {}).items():
            if _is_tensor(tensor):
                tensors[f"{key}.{name}"] = tensor
    return tensors


def _is_tensor(value: Any) -> bool:
    if isinstance(value, Object):  # quantized, sparse, and other tensors that cannot be read
        return value.factory.module.startswith("torch") and value.factory.name.startswith("_rebuild_")
    return isinstance(value, Tensor)


def _mapping(value: Any) -> Optional[Dict[Any, Any]]:
    """The entries of a dictionary; the tensors of a module; the attributes of another object."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Object) or _is_tensor(value):
        return None
    if value.entries:
        return value.entries
    if _is_module(value):
        return _module_tensors(value)
    return value.state if isinstance(value.state, dict) else None


def _items(content: Any) -> Optional[Dict[str, Any]]:
    """The items of a list or tuple by number, such as of ``(state_dict, epoch)``; not of tensors."""
    if type(content) not in (list, tuple) or any(map(_is_tensor, content)):
        return None
    return {str(number): item for number, item in enumerate(content)}


def _is_module(value: Any) -> bool:
    return isinstance(value, Object) and isinstance(value.state, dict) and "_modules" in value.state


def _module_tensors(module: Object) -> Dict[str, Any]:
    """What `state_dict` of a pickled module would return."""
    tensors: Dict[str, Any] = {}
    waiting = [("", module, 0)]
    visited = 0
    while waiting:
        prefix, part, depth = waiting.pop()
        visited += 1
        if visited > MOST_MODULES or depth > 64:
            raise ValueError("modules nested too deeply")
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(part, kind):
                if _is_tensor(value):
                    tensors[f"{prefix}{name}"] = value
        children = [(f"{prefix}{n}.", m, depth + 1) for n, m in _entries(part, "_modules") if _is_module(m)]
        waiting += reversed(children)
    return tensors


def _entries(module: Object, kind: str) -> List[Tuple[Any, Any]]:
    entries = module.state.get(kind)
    return list(entries.items()) if isinstance(entries, dict) else []


def _without_wrapper_parts(tensors: Dict[str, Any]) -> Dict[str, Any]:
    """The tensors without `WRAPPER_PARTS` in their names, unless two would have the same name."""
    plain = {".".join(p for p in name.split(".") if p not in WRAPPER_PARTS): name for name in tensors}
    return {new: tensors[old] for new, old in plain.items()} if len(plain) == len(tensors) else tensors


def describe(content: Any) -> str:
    """What a checkpoint without a network holds."""
    if isinstance(content, Tensor):
        return f"holds one tensor of shape {content.shape}, without a name; save the state dict"
    if isinstance(content, list) and any(map(_is_tensor, content)):
        return f"holds a list of {len(content)} tensors without names; save the state dict"
    if isinstance(content, Name):
        return f"holds the name {content}, no tensors"
    mapping = _mapping(content)
    if mapping is None:
        kind = f"an object of {content.factory}" if isinstance(content, Object) else type(content).__name__
        return f"holds {kind}, no tensors; save the state dict"
    keys = list_names([str(key) for key in mapping]) or "none"
    if any(isinstance(v, Object) and "numpy" in v.factory.module for v in mapping.values()):
        return f"holds NumPy arrays, not a PyTorch state dict (keys {keys}); save them as .safetensors"
    if "param_groups" in mapping:
        return f"holds the state of an optimizer, no network (keys {keys}); give the network's state dict"
    return f"holds no tensors of a network (keys {keys}); save the network's state dict"
