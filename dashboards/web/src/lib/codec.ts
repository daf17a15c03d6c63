/**
 * Structs to arrays and back. On the wire every struct is an array of its fields in order, led by
 * a tag if there are several kinds of it; `FIELDS` of the generated module has names and defaults.
 */

import { FIELDS, OPERATIONS } from "./protocol";

interface Field {
  name: string;
  inner: string;
  fallback: string | undefined;
}

interface Shape {
  tag: string | undefined;
  fields: Field[];
}

const shapes = new Map<string, Shape>();

function shapeOf(struct: string): Shape {
  let found = shapes.get(struct);
  if (!found) {
    const text = FIELDS[struct];
    if (text === undefined) throw new Error(`no struct is called ${struct}`);
    const words = text.split(" ").filter(Boolean);
    const tag = words[0]?.startsWith("#") ? words.shift()!.slice(1) : undefined;
    const fields = words.map((word) => {
      const [, name, inner, fallback] = /^(\w+)(?::([\w|]+))?(?:=(.*))?$/.exec(word)!;
      return { name: name!, inner: inner ?? "", fallback };
    });
    found = { tag, fields };
    shapes.set(struct, found);
  }
  return found;
}

type Plain = Record<string, unknown>;

/** The array of a request: `[operation, field, ...]`. */
export function encodeRequest(operation: string, request: object): unknown[] {
  return encode(OPERATIONS[operation]![0], request as Plain);
}

function encode(struct: string, value: Plain): unknown[] {
  const { tag, fields } = shapeOf(struct);
  const made: unknown[] = tag === undefined ? [] : [tag];
  for (const { name, inner, fallback } of fields) {
    const given = value[name];
    if (given === undefined) {
      if (fallback === undefined) throw new Error(`${struct}.${name} is required`);
      made.push(JSON.parse(fallback));
    } else made.push(inner ? encodeInner(inner, given) : given);
  }
  return made;
}

function encodeInner(inner: string, value: unknown): unknown {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map((one) => encodeInner(inner, one));
  const choices = inner.split("|");
  const chosen =
    choices.length === 1
      ? inner
      : choices.find((one) => shapeOf(one).tag === (value as Plain)["tag"])!;
  return encode(chosen, value as Plain);
}

/** The answer of an operation, or an item of its stream, from its array. */
export function decodeAnswer(operation: string, value: unknown): unknown {
  const struct = OPERATIONS[operation]![1];
  return struct && Array.isArray(value) ? decode(struct, value) : null;
}

function decode(struct: string, value: unknown[]): Plain {
  let name = struct;
  if (struct.includes("|")) {
    name = struct.split("|").find((one) => shapeOf(one).tag === value[0]) ?? "";
    if (!name) return { tag: value[0] };
  }
  const { tag, fields } = shapeOf(name);
  const made: Plain = {};
  let at = 0;
  if (tag !== undefined) made["tag"] = value[at++];
  for (const { name: field, inner, fallback } of fields) {
    const given = at < value.length ? value[at] : JSON.parse(fallback ?? "null");
    made[field] = inner ? decodeInner(inner, given) : given;
    at++;
  }
  return made;
}

function decodeInner(inner: string, value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  // A list of structs is an array of arrays; a struct begins with a tag or a plain field.
  const isList = value.length === 0 || Array.isArray(value[0]);
  return isList ? value.map((one) => decode(inner, one as unknown[])) : decode(inner, value);
}
