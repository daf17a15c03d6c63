/** The lines that differ between two texts. */

export interface DiffLine {
  sign: " " | "-" | "+";
  text: string;
}

const CELLS_MAX = 4_000_000;

/** Give all lines in order; null if the texts are too long to compare. */
export function diff(before: string, after: string): DiffLine[] | null {
  const old = before.split("\n");
  const now = after.split("\n");
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head++;
  let tail = 0;
  while (
    tail < old.length - head &&
    tail < now.length - head &&
    old[old.length - 1 - tail] === now[now.length - 1 - tail]
  ) {
    tail++;
  }
  const left = old.slice(head, old.length - tail);
  const right = now.slice(head, now.length - tail);
  if (left.length * right.length > CELLS_MAX) return null;
  const same = (text: string): DiffLine => ({ sign: " ", text });
  return [
    ...old.slice(0, head).map(same),
    ...changed(left, right),
    ...old.slice(old.length - tail).map(same),
  ];
}

/** By the longest common subsequence of lines. */
function changed(left: string[], right: string[]): DiffLine[] {
  const width = right.length + 1;
  const longest = new Uint32Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        left[i] === right[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  const made: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      made.push({ sign: " ", text: left[i++]! });
      j++;
    } else if (
      j >= right.length ||
      (i < left.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!)
    ) {
      made.push({ sign: "-", text: left[i++]! });
    } else made.push({ sign: "+", text: right[j++]! });
  }
  return made;
}
