// quantized_linear: a tile's weights are unpacked on their way from memory, for up to four rows of x; for many rows once,
// into the CPU's cache.
//
// x is multiplied in 16-bit integers that share a scale by groups too, so that a CPU's instruction for sums of products
// of such integers does the work: floats would take three times as many, and the weights would wait for it. What is
// lost is 1.5e-5 of a group's greatest number, a hundredth of what bfloat16 loses.
#pragma once

#include <memory>
#include <vector>

#include "../native/threads.hpp"
#include "../native/vectors.hpp"

constexpr int TILE = 32;  // as in octavo_kernels.quantized_linear, which lays the weights out
constexpr int SUPER = 256;
constexpr int MANY_ROWS = 16;  // of x, for which a tile is unpacked once, and x quantised by all threads
// Bytes: CPUs foresee what is read next within a page of memory, and no further. A whole page ahead a head of 8 bits came
// a third slower.
constexpr int AHEAD = 2048;

// How a weight lies in memory, and what its values stand for: see octavo_kernels.quantized_linear.
template <int bits, int group, bool nested, bool minimum, bool looked_up>
struct Layout {
    static constexpr int BITS = bits, GROUP = group;
    static constexpr bool NESTED = nested, MINIMUM = minimum, LOOKED_UP = looked_up;
    static constexpr int KINDS = MINIMUM ? 2 : 1;  // of scales and minimums
    // Pairs of columns whose values lie together: those whose upper bits share bytes, or all of a group.
    static constexpr int PAIRS = BITS == 5 ? 8 : BITS == 6 ? 4 : GROUP / 2;
    static constexpr int UPPER_BITS = BITS == 5 ? 1 : BITS == 6 ? 2 : 0;
    static constexpr int UPPER_BYTES = UPPER_BITS ? 2 * TILE : 0;
    static constexpr int PAIR_BYTES = BITS == 8 ? 2 * TILE : TILE;
    static constexpr int SECTION_BYTES = UPPER_BYTES + PAIRS * PAIR_BYTES;
    static constexpr int VALUE_BYTES = GROUP / 2 / PAIRS * SECTION_BYTES;
    static constexpr int FACTOR_BYTES = TILE * (NESTED ? 1 : 2);
    static constexpr int GROUP_BYTES = VALUE_BYTES + KINDS * FACTOR_BYTES;
    static constexpr int HEAD_BYTES = NESTED ? KINDS * TILE * 2 : 0;
    static constexpr int GROUPS = NESTED ? SUPER / GROUP : 1;
    static constexpr int COLUMNS = GROUPS * GROUP;
    static constexpr int BLOCK_BYTES = HEAD_BYTES + GROUPS * GROUP_BYTES;

    // The scales of LANES rows, or with `kind` 1 their minimums; `head`: the block, `factors`: what follows the values.
    static floats factor(const uint8_t* head, const uint8_t* factors, int kind, int row) {
        if constexpr (NESTED) {
            const uint8_t* at = factors + kind * TILE + row;
            const floats whole = kind == 0 ? load_signed_bytes(at) : load_unsigned_bytes(at);
            return whole * load(reinterpret_cast<const float16*>(head) + kind * TILE + row);
        } else {
            return load(reinterpret_cast<const float16*>(factors) + kind * TILE + row);
        }
    }
};

// What a weight is made of beside its bytes. numbers: 16 of them, where values are looked up.
struct Meaning {
    float offset;
    const int8_t* numbers;
};

// x [rows, in] as numbers [rows, in] times the scales [rows, in / group] of their groups; and the groups' sums, which
// minimums and offsets are multiplied by.
struct Quantized {
    std::unique_ptr<int16_t[]> numbers;
    std::unique_ptr<float[]> scales, sums;

    Quantized(const float* x, int64_t rows, int64_t width, int64_t size, int64_t workers)
        : numbers(new int16_t[rows * width]), scales(new float[rows * width / size]),
          sums(new float[rows * width / size]) {
        in_parallel(rows * width / size, rows < MANY_ROWS ? 1 : workers, [&](int64_t group) {
            const float* start = x + group * size;
            floats largest{}, total{}, units{};
            for (int column = 0; column < size; column += LANES) {
                largest = greater(magnitude(load(start + column)), largest);
                total += load(start + column);
            }
            const float limit = greatest(largest);
            const float per_unit = limit > 0 ? 32767 / limit : 0;
            for (int column = 0; column < size; column += LANES) {
                const shorts whole = rounded(load(start + column) * per_unit);
                store(&numbers[group * size + column], whole);
                units += __builtin_convertvector(whole, floats);
            }
            const float all = sum(total);
            scales[group] = all == all ? limit / 32767 : all;  // a NaN stays one
            sums[group] = sum(units) * scales[group];
        });
    }
};

// Some rows of a tile, LANES of them a vector: HALF vectors from `first` on of the tile's first half, which lie in the low
// halves of bytes, and those behind them in its second half.
template <int HALF>
struct Part {
    static constexpr int VECTORS = 2 * HALF;
    int first;

    int row(int vector) const { return (first + vector % HALF) * LANES + vector / HALF * (TILE / 2); }
};

// The lower bits of the values of two columns of a part of a tile, as pairs of them.
template <class L, int HALF>
inline void load_lower(const uint8_t* at, const Meaning& meaning, Part<HALF> part, pairs* values) {
    if constexpr (L::BITS == 8) {
        for (int each = 0; each < 2 * HALF; each++) values[each] = load_byte_pairs(at + part.row(each) * 2);
    } else if constexpr (L::LOOKED_UP) {
        for (int each = 0; each < HALF; each++) {
            const bytes both = load_raw<bytes>(at + part.row(each) * 2);
            values[each] = looked_up(meaning.numbers, both & 15);
            // There are no shifts of bytes; what comes over from a neighbour is cut off.
            const bytes high = std::bit_cast<bytes>(std::bit_cast<shorts>(both) >> 4) & 15;
            values[each + HALF] = looked_up(meaning.numbers, high);
        }
    } else {
        for (int each = 0; each < HALF; each++) {
            const pairs both = load_unsigned_pairs(at + part.row(each) * 2);
            values[each] = both & 15;
            values[each + HALF] = both >> 4;
        }
    }
}

// The upper bits of a section's values, of all its pairs of columns.
template <class L, int HALF>
inline void load_upper(const uint8_t* section, Part<HALF> part, pairs* upper) {
    if constexpr (L::UPPER_BITS > 0)
        for (int each = 0; each < 2 * HALF; each++) upper[each] = load_unsigned_pairs(section + part.row(each) * 2);
}

// The values of two columns of a part of a tile, as pairs of them.
template <class L, int HALF>
inline void load_values(const uint8_t* section, int pair, const Meaning& meaning, Part<HALF> part, const pairs* upper,
                        pairs* values) {
    load_lower<L, HALF>(section + L::UPPER_BYTES + pair * L::PAIR_BYTES, meaning, part, values);
    if constexpr (L::UPPER_BITS > 0) {
        const int shift = 4 - pair * L::UPPER_BITS;
        for (int each = 0; each < 2 * HALF; each++)
            values[each] |= (shift > 0 ? upper[each] << shift : upper[each] >> -shift) & ((1 << L::BITS) - 16);
    }
}

// What the sums of a group's columns of x are multiplied by, for LANES rows.
template <class L>
inline floats added(const Meaning& meaning, const uint8_t* block, const uint8_t* factors, int row, floats scale) {
    floats minimum{};
    if constexpr (L::MINIMUM) minimum = L::factor(block, factors, 1, row);
    if constexpr (L::BITS < 8 && !L::LOOKED_UP && !L::MINIMUM) minimum -= scale * meaning.offset;
    return minimum;
}

// The product of ROWS rows of x, from `row` on, with a part of one tile of the weight; `out`: where the first row's goes.
template <class L, int ROWS, int HALF>
inline void multiply_part(const uint8_t* tile, Part<HALF> part, const Meaning& meaning, const Quantized& x, int64_t row,
                          int64_t width, float* out, int64_t out_stride) {
    constexpr int VECTORS = 2 * HALF;
    const int64_t groups = width / L::GROUP;
    floats totals[ROWS][VECTORS] = {};
    const uint8_t* block = tile;
    for (int64_t first = 0; first < groups; first += L::GROUPS, block += L::BLOCK_BYTES) {
        for (int line = 0; line < L::HEAD_BYTES; line += CACHE_LINE) prefetch(block + AHEAD + line);
        for (int inner = 0; inner < L::GROUPS; inner++) {
            const int64_t group = first + inner;
            const uint8_t* start = block + L::HEAD_BYTES + inner * L::GROUP_BYTES;
            for (int line = 0; line < L::GROUP_BYTES; line += CACHE_LINE) prefetch(start + AHEAD + line);
            integers dots[ROWS][VECTORS] = {};
            for (int section = 0; section < L::GROUP / 2 / L::PAIRS; section++) {
                const uint8_t* at = start + section * L::SECTION_BYTES;
                pairs upper[VECTORS];
                load_upper<L, HALF>(at, part, upper);
#pragma GCC unroll 8
                for (int pair = 0; pair < L::PAIRS; pair++) {
                    pairs values[VECTORS];
                    load_values<L, HALF>(at, pair, meaning, part, upper, values);
                    const int64_t column = group * L::GROUP + 2 * (section * L::PAIRS + pair);
                    for (int each = 0; each < ROWS; each++) {
                        const pairs elements = broadcast_pair(&x.numbers[(row + each) * width + column]);
                        for (int vector = 0; vector < VECTORS; vector++)
                            dots[each][vector] = add_dot(elements, values[vector], dots[each][vector]);
                    }
                }
            }
            const uint8_t* factors = start + L::VALUE_BYTES;
            for (int vector = 0; vector < VECTORS; vector++) {
                const floats scale = L::factor(block, factors, 0, part.row(vector));
                const floats minimum = added<L>(meaning, block, factors, part.row(vector), scale);
                for (int each = 0; each < ROWS; each++) {
                    const int64_t of_x = (row + each) * groups + group;
                    totals[each][vector] += scale * x.scales[of_x] * __builtin_convertvector(dots[each][vector], floats);
                    if constexpr (L::BITS < 8 && !L::LOOKED_UP) totals[each][vector] += minimum * x.sums[of_x];
                }
            }
        }
    }
    for (int each = 0; each < ROWS; each++)
        for (int vector = 0; vector < VECTORS; vector++)
            store(out + each * out_stride + part.row(vector), totals[each][vector]);
}

// The same with the whole tile, in parts whose sums find room in the CPU's registers: 8 of AVX2's 16.
template <class L, int ROWS>
inline void multiply_tile(const uint8_t* tile, const Meaning& meaning, const Quantized& x, int64_t row, int64_t width,
                          float* out, int64_t out_stride) {
    constexpr int ALL = TILE / LANES / 2, HALF = LANES == 8 && ROWS == 4 ? 1 : ALL;
    for (int first = 0; first < ALL; first += HALF)
        multiply_part<L, ROWS, HALF>(tile, Part<HALF>{first}, meaning, x, row, width, out, out_stride);
}

// A tile as it is multiplied by many rows of x.
struct Unpacked {
    std::vector<int16_t> values;           // [width / 2, TILE, 2]
    std::vector<float> scales, minimums;  // [groups, TILE]

    template <class L>
    void unpack(const uint8_t* tile, const Meaning& meaning, int64_t width) {
        constexpr int HALF = TILE / LANES / 2;
        constexpr Part<HALF> whole{0};
        const int64_t groups = width / L::GROUP;
        values.resize(width * TILE), scales.resize(groups * TILE), minimums.resize(groups * TILE);
        int16_t* out = values.data();
        for (int64_t group = 0; group < groups; group++) {
            const uint8_t* block = tile + group / L::GROUPS * L::BLOCK_BYTES;
            const uint8_t* start = block + L::HEAD_BYTES + group % L::GROUPS * L::GROUP_BYTES;
            for (int line = 0; line < L::GROUP_BYTES; line += CACHE_LINE) prefetch(start + AHEAD + line);
            for (int section = 0; section < L::GROUP / 2 / L::PAIRS; section++) {
                const uint8_t* at = start + section * L::SECTION_BYTES;
                pairs upper[2 * HALF], found[2 * HALF];
                load_upper<L, HALF>(at, whole, upper);
                for (int pair = 0; pair < L::PAIRS; pair++, out += 2 * TILE) {
                    load_values<L, HALF>(at, pair, meaning, whole, upper, found);
                    for (int each = 0; each < 2 * HALF; each++) store(out + 2 * whole.row(each), found[each]);
                }
            }
            const uint8_t* factors = start + L::VALUE_BYTES;
            for (int row = 0; row < TILE; row += LANES) {
                const floats scale = L::factor(block, factors, 0, row);
                store(&scales[group * TILE + row], scale);
                store(&minimums[group * TILE + row], added<L>(meaning, block, factors, row, scale));
            }
        }
    }
};

// As multiply_part, with VECTORS vectors of an unpacked tile's rows from `first` on.
template <class L, int ROWS, int VECTORS>
inline void multiply_unpacked(const Unpacked& tile, int first, const Quantized& x, int64_t row, int64_t width,
                              float* out, int64_t out_stride) {
    const int64_t groups = width / L::GROUP;
    floats totals[ROWS][VECTORS] = {};
    for (int64_t group = 0; group < groups; group++) {
        integers dots[ROWS][VECTORS] = {};
        const int16_t* values = &tile.values[(group * L::GROUP / 2 * TILE + first) * 2];
        const int16_t* numbers = &x.numbers[row * width + group * L::GROUP];
        for (int pair = 0; pair < L::GROUP / 2; pair++)
            for (int each = 0; each < ROWS; each++) {
                const pairs elements = broadcast_pair(numbers + each * width + 2 * pair);
                for (int vector = 0; vector < VECTORS; vector++) {
                    const pairs weights = load_raw<pairs>(values + 2 * (pair * TILE + vector * LANES));
                    dots[each][vector] = add_dot(elements, weights, dots[each][vector]);
                }
            }
        for (int vector = 0; vector < VECTORS; vector++) {
            const int64_t place = group * TILE + first + vector * LANES;
            const floats scale = load(&tile.scales[place]), minimum = load(&tile.minimums[place]);
            for (int each = 0; each < ROWS; each++) {
                const int64_t of_x = (row + each) * groups + group;
                totals[each][vector] += scale * x.scales[of_x] * __builtin_convertvector(dots[each][vector], floats);
                if constexpr (L::BITS < 8 && !L::LOOKED_UP) totals[each][vector] += minimum * x.sums[of_x];
            }
        }
    }
    for (int each = 0; each < ROWS; each++)
        for (int vector = 0; vector < VECTORS; vector++)
            store(out + each * out_stride + first + vector * LANES, totals[each][vector]);
}

// Calls `multiply` with each row, or with several at once: MOST, 4, 2 or 1 of them.
template <int MOST, class Multiply>
inline void rows_at_once(int64_t rows, Multiply multiply) {
    int64_t row = 0;
    for (; row + MOST <= rows; row += MOST) multiply.template operator()<MOST>(row);
    if constexpr (MOST > 4)
        for (; row + 4 <= rows; row += 4) multiply.template operator()<4>(row);
    for (; row + 2 <= rows; row += 2) multiply.template operator()<2>(row);
    if (row < rows) multiply.template operator()<1>(row);
}

template <class L>
void multiply_tiles(const uint8_t* weight, const Meaning& meaning, const float* x, int64_t rows, int64_t width,
                    int64_t tiles, float* out, int64_t out_stride, int64_t workers) {
    constexpr int MOST = LANES >= 8 ? 4 : 2;               // rows for which a weight is unpacked on its way
    constexpr int MOST_UNPACKED = LANES == 16 ? 8 : MOST;  // rows by VECTORS: sums that find room in the CPU's registers
    constexpr int VECTORS = 2;
    const Quantized quantized(x, rows, width, L::GROUP, workers);
    const int64_t tile_bytes = width / L::COLUMNS * L::BLOCK_BYTES;
    in_parallel(tiles, workers, [&](int64_t tile) {
        const uint8_t* at = weight + tile * tile_bytes;
        float* columns = out + tile * TILE;
        if (rows < MANY_ROWS || L::BITS == 8)  // those of 8 bits are unpacked by their load
            return rows_at_once<MOST>(rows, [&]<int ROWS>(int64_t row) {
                multiply_tile<L, ROWS>(at, meaning, quantized, row, width, columns + row * out_stride, out_stride);
            });
        static thread_local Unpacked unpacked;  // its memory serves the next tile
        unpacked.unpack<L>(at, meaning, width);
        for (int first = 0; first < TILE; first += VECTORS * LANES)
            rows_at_once<MOST_UNPACKED>(rows, [&]<int ROWS>(int64_t row) {
                multiply_unpacked<L, ROWS, VECTORS>(unpacked, first, quantized, row, width, columns + row * out_stride,
                                                    out_stride);
            });
    });
}

// One row of a weight in float32: `place` of its tile.
template <class L>
void unpack_row(const uint8_t* tile, const Meaning& meaning, int64_t place, int64_t width, float* out) {
    for (int64_t group = 0; group < width / L::GROUP; group++) {
        const uint8_t* block = tile + group / L::GROUPS * L::BLOCK_BYTES;
        const uint8_t* start = block + L::HEAD_BYTES + group % L::GROUPS * L::GROUP_BYTES;
        const uint8_t* factors = start + L::VALUE_BYTES;
        const int64_t first = place / LANES * LANES;
        const float scale = L::factor(block, factors, 0, first)[place - first];
        float minimum = 0;
        if constexpr (L::MINIMUM) minimum = L::factor(block, factors, 1, first)[place - first];
        for (int column = 0; column < L::GROUP; column++) {
            const int pair = column / 2 % L::PAIRS;
            const uint8_t* section = start + column / 2 / L::PAIRS * L::SECTION_BYTES;
            const uint8_t* at = section + L::UPPER_BYTES + pair * L::PAIR_BYTES + column % 2;
            float value;
            if constexpr (L::BITS == 8) {
                value = static_cast<int8_t>(at[2 * place]);
            } else {
                int whole = at[2 * (place % (TILE / 2))] >> (place < TILE / 2 ? 0 : 4) & 15;
                if constexpr (L::UPPER_BITS > 0)
                    whole |= (section[2 * place + column % 2] << 4 >> pair * L::UPPER_BITS) & ((1 << L::BITS) - 16);
                value = L::LOOKED_UP ? meaning.numbers[whole] : whole - meaning.offset;
            }
            out[group * L::GROUP + column] = scale * value + minimum;
        }
    }
}

// Calls `loop` with a null pointer to the Layout of these properties.
template <class Loop>
void with_layout(int64_t bits, int64_t group, bool nested, bool minimum, bool looked_up, Loop loop) {
#define LAYOUT(BITS, GROUP, NESTED, MINIMUM, LOOKED_UP)                                                             \
    if (bits == BITS && group == GROUP && nested == NESTED && minimum == MINIMUM && looked_up == LOOKED_UP)         \
        return loop(static_cast<Layout<BITS, GROUP, NESTED, MINIMUM, LOOKED_UP>*>(nullptr));
    LAYOUT(4, 32, false, false, false)
    LAYOUT(4, 32, false, true, false)
    LAYOUT(4, 32, false, false, true)
    LAYOUT(4, 32, true, false, true)
    LAYOUT(4, 32, true, true, false)
    LAYOUT(4, 16, true, false, false)
    LAYOUT(4, 16, true, true, false)
    LAYOUT(5, 32, false, false, false)
    LAYOUT(5, 32, false, true, false)
    LAYOUT(5, 32, true, true, false)
    LAYOUT(6, 16, true, false, false)
    LAYOUT(8, 32, false, false, false)
#undef LAYOUT
}

// out [rows, tiles * TILE of each out_stride] = x [rows, width] times the packed weight, plus the bias [columns], if
// there is one.
template <class L>
void quantized_linear(const Meaning& meaning, const uint8_t* weight, const float* bias, const float* x, int64_t rows,
                      int64_t width, int64_t columns, float* out, int64_t out_stride, int64_t workers) {
    multiply_tiles<L>(weight, meaning, x, rows, width, (columns + TILE - 1) / TILE, out, out_stride, workers);
    for (int64_t row = 0; bias != nullptr && row < rows; row++, out += out_stride)
        for (int64_t column = 0; column < columns; column++) out[column] += bias[column];
}

// out [count, width]: the rows of the weight that are named.
template <class L>
void unpacked_rows(const Meaning& meaning, const uint8_t* weight, int64_t width, const int64_t* rows, int64_t count,
                   float* out) {
    const int64_t tile_bytes = width / L::COLUMNS * L::BLOCK_BYTES;
    for (int64_t each = 0; each < count; each++)
        unpack_row<L>(weight + rows[each] / TILE * tile_bytes, meaning, rows[each] % TILE, width, out + each * width);
}
