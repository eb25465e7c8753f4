"""The tables that dicom-validator would download, built offline from what highdicom ships.

Types 1, 2 and 3 and the use of modules are in them; conditions (1C, 2C) and enumerations are
not, so conditional attributes are taken as optional. Engine and table are independent of each
other, but the table is highdicom's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import dicom_validator
from pydicom.datadict import DicomDictionary, dictionary_description, keyword_dict
from pydicom.uid import UID_dictionary

EDITION = "2099a"
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_GROUP_USE = {
    "PixelMeasuresSequence": "C",
    "PlanePositionSequence": "C",
    "PlaneOrientationSequence": "C",
    "FrameContentSequence": "M",
}
_OPTIONAL = {"type": "U"}


def build(directory: Path) -> None:
    """Write the cache that ``validate_iods -src directory -e local`` reads."""
    modules, groups = _modules(_table("module_attribute_map"))
    tables = {
        "iod_info": _iods(modules, groups),
        "module_info": modules,
        "dict_info": _dictionary(),
        "uid_info": _uids(),
    }
    edition = directory / EDITION
    (edition / "json").mkdir(parents=True, exist_ok=True)
    (edition / "docbook").mkdir(exist_ok=True)
    for part in ("03", "04", "06"):
        (edition / "docbook" / f"part{part}.xml").write_text("<book/>")
    (directory / "editions.json").write_text(json.dumps([EDITION]))
    for name, table in tables.items():
        (edition / "json" / f"{name}.json").write_text(json.dumps(table))
    (edition / "json" / "version").write_text(dicom_validator.__version__)


def _table(name: str) -> Any:
    return json.loads((files("highdicom") / "_standard" / f"{name}.json").read_text())


def _tag(keyword: str) -> str:
    tag = keyword_dict[keyword]
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _tree(attributes: Iterable[dict[str, Any]], skip: int = 0) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for attribute in attributes:
        path = attribute["path"][skip:]
        if any(keyword not in keyword_dict for keyword in (attribute["keyword"], *path)):
            continue
        node = root
        for keyword in path:
            entry = node.setdefault(_tag(keyword), {"name": keyword, "type": "3"})
            node = entry.setdefault("items", {})
        entry = node.setdefault(_tag(attribute["keyword"]), {})
        description = dictionary_description(keyword_dict[attribute["keyword"]])
        entry.update(name=description, type=attribute["type"])
        if "C" in attribute["type"]:
            entry["cond"] = _OPTIONAL
    return root


def _modules(table: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    modules: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for key, attributes in table.items():
        if key == "sr-document-content":
            # Recursive, with macros by value type: left to dciodvfy, pixelmed and DCMTK.
            roots = [attribute for attribute in attributes if not attribute["path"]]
            modules[key] = {_tag(a["keyword"]): {"name": a["keyword"], "type": "3"} for a in roots}
            continue
        outside = [a for a in attributes if a["path"][:1] not in ([g] for g in _FUNCTIONAL_GROUPS)]
        modules[key] = _tree(outside)
        inside = [a for a in attributes if a["path"][:1] == [_FUNCTIONAL_GROUPS[1]]]
        if inside:
            groups[key] = _group_macros(key, inside, modules)
    return modules, groups


def _group_macros(
    key: str, inside: list[dict[str, Any]], modules: dict[str, Any]
) -> dict[str, Any]:
    for sequence in _FUNCTIONAL_GROUPS:
        entry = modules[key].get(_tag(sequence))
        if entry is not None:
            entry["items"] = {"include": [{"ref": "FuncGroup"}]}
    macros = {}
    for tag, value in _tree(inside, 1).items():
        reference = f"{key}/{value['name']}"
        modules[reference] = {tag: value}
        keyword = next(keyword for keyword in keyword_dict if _tag(keyword) == tag)
        use = _GROUP_USE.get(keyword, "U")
        condition = {"cond": _OPTIONAL} if use == "C" else {}
        macros[value["name"]] = {"ref": reference, "use": use, **condition}
    return macros


def _iods(modules: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    module_map = _table("iod_module_map")
    iods: dict[str, Any] = {}
    for uid, iod in _table("sop_class_iod_map").items():
        entry: dict[str, Any] = {"title": iod, "modules": {}, "group_macros": {}}
        for module in module_map.get(iod, []):
            if module["key"] not in modules:
                continue
            condition = {"cond": _OPTIONAL} if module["usage"] == "C" else {}
            entry["modules"][module["key"]] = {
                "ref": module["key"],
                "use": module["usage"],
                **condition,
            }
            entry["group_macros"].update(groups.get(module["key"], {}))
        iods[uid] = entry
    return iods


def _dictionary() -> dict[str, Any]:
    return {
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})": {
            "name": value[2],
            "vm": value[1],
            "vr": value[0],
            "prop": value[3][:3].upper(),
        }
        for tag, value in DicomDictionary.items()
    }


def _uids() -> dict[str, dict[str, str]]:
    return {
        kind: {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == kind}
        for kind in ("SOP Class", "Transfer Syntax")
    }
