# SPDX-License-Identifier: GPL-2.0-only
"""
Is a document what its JSON Schema says? The part of draft 2020-12 that tests/schema uses: type, properties, required,
additionalProperties, items, enum. A schema with another word is refused: nothing is skipped in silence.
"""

KNOWN = {"$schema", "title", "type", "properties", "required", "additionalProperties", "items", "enum"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def openings(schema, path="$"):
    """Where a schema lets anything pass: [] if every part has a type, and says what may be in it."""
    if not isinstance(schema, dict) or "type" not in schema:
        return [f"{path}: no type"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found = []
    if "array" in kinds:
        found += openings(schema.get("items"), f"{path}[]")
    if "object" in kinds:
        rest = schema.get("additionalProperties", True)
        if rest is True:
            found.append(f"{path}: any member may be in it")
        elif rest is not False:
            found += openings(rest, f"{path}.*")
        properties = schema.get("properties", {})
        found += [f"{path}: {name} is required and not described" for name in schema.get("required", [])
                  if name not in properties]
        for name, value in properties.items():
            found += openings(value, f"{path}.{name}")
    return found


def faults(schema, document, path="$"):
    """[] if it fits; else sentences."""
    unknown = set(schema) - KNOWN
    if unknown:
        return [f"{path}: the schema has words that are not known here: {sorted(unknown)}"]
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(_is(kind, document) for kind in wanted):
        return [f"{path}: expected {' or '.join(wanted)}, seen {document!r:.80}"]
    found = []
    if "enum" in schema and document not in schema["enum"]:
        found.append(f"{path}: expected one of {schema['enum']}, seen {document!r:.80}")
    if isinstance(document, dict):
        found += _members(schema, document, path)
    if isinstance(document, list) and "items" in schema:
        for index, item in enumerate(document):
            found += faults(schema["items"], item, f"{path}[{index}]")
    return found


def _members(schema, document, path):
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in document]
    for name, value in document.items():
        if name in properties:
            found += faults(properties[name], value, f"{path}.{name}")
        elif rest is False:
            found.append(f"{path}: {name} has no place here")
        elif isinstance(rest, dict):
            found += faults(rest, value, f"{path}.{name}")
    return found


def _is(kind, value):
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])
