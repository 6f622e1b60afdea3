/** Prometheus' text format, and what two readings of it tell. */

/**
 * @typedef {object} Sample one reading of the server's metrics, all series of a name added up
 * @property {number} at in seconds, of a clock that only runs forward
 * @property {Map<string, number>} values
 * @property {Map<string, Map<number, number>>} buckets of each histogram: upper bound -> observations up to there
 */

/**
 * @param {string} text
 * @param {number} at in seconds
 * @returns {Sample}
 */
export function parseMetrics(text, at) {
  const values = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels = "", digits] = line.match(/^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)/) ?? [];
    if (name === undefined) continue;
    const bound = name.endsWith("_bucket") ? labels.match(/\ble="([^"]*)"/)?.[1] : undefined;
    if (bound === undefined) {
      add(values, name, Number(digits));
    } else {
      const histogram = name.slice(0, -"_bucket".length);
      if (!buckets.has(histogram)) buckets.set(histogram, new Map());
      add(buckets.get(histogram), bound === "+Inf" ? Infinity : Number(bound), Number(digits));
    }
  }
  return { at, values, buckets };
}

/**
 * How fast a counter grew between two samples, per second; null where it cannot be told.
 * @param {Sample} before
 * @param {Sample} now
 * @param {string} name
 */
export function rate(before, now, name) {
  const [from, to] = [before.values.get(name), now.values.get(name)];
  // A counter that fell is that of a server that started anew.
  if (from === undefined || to === undefined || to < from || now.at <= before.at) return null;
  return (to - from) / (now.at - before.at);
}

/**
 * A quantile of what a histogram observed between two samples; null where there was nothing. Straight between a
 * bucket's bounds; of the last bucket, which has no upper one, its lower.
 * @param {Sample} before
 * @param {Sample} now
 * @param {string} name
 * @param {number} share from 0 to 1
 */
export function quantile(before, now, name, share) {
  const earlier = before.buckets.get(name);
  const counts = [...(now.buckets.get(name) ?? [])]
    .sort(([one], [other]) => one - other)
    .map(([bound, count]) => ({ bound, count: count - (earlier?.get(bound) ?? 0) }));
  const total = counts.at(-1)?.count ?? 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const { bound, count } of counts) {
    if (count >= share * total && count > below) {
      return bound === Infinity ? low : low + ((bound - low) * (share * total - below)) / (count - below);
    }
    [low, below] = [bound, count];
  }
  return null;
}

/**
 * @template K
 * @param {Map<K, number>} sums
 * @param {K} key
 * @param {number} value
 */
function add(sums, key, value) {
  sums.set(key, (sums.get(key) ?? 0) + value);
}
