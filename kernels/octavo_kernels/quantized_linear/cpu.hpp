// quantized_linear: a tile's weights are unpacked on their way from memory, for up to four rows of x.
//
// x is multiplied in 16-bit integers that share a scale by groups too, so that a CPU's instruction for sums of products
// of such integers does the work: floats would take three times as many, and the weights would wait for it. What is
// lost is 1.5e-5 of a group's greatest number, a hundredth of what bfloat16 loses.
#pragma once

#include <memory>

#include "../native/threads.hpp"
#include "../native/vectors.hpp"

constexpr int GROUP = 32;  // as in octavo_kernels.quantized_linear, which lays the weights out
constexpr int TILE = 32;
constexpr int AHEAD = 4096;  // bytes: CPUs foresee what is read next within a page of memory, and no further

// x [rows, in] as numbers [rows, in] times the scales [rows, in / GROUP] of their groups; and the groups' sums, which
// their minimums are multiplied by.
struct Quantized {
    std::unique_ptr<int16_t[]> numbers;
    std::unique_ptr<float[]> scales, sums;

    Quantized(const float* x, int64_t rows, int64_t width)
        : numbers(new int16_t[rows * width]), scales(new float[rows * width / GROUP]),
          sums(new float[rows * width / GROUP]) {
        for (int64_t group = 0; group < rows * width / GROUP; group++) {
            const float* start = x + group * GROUP;
            floats largest{}, total{};
            for (int column = 0; column < GROUP; column += LANES) {
                largest = greater(magnitude(load(start + column)), largest);
                total += load(start + column);
            }
            const float limit = greatest(largest);
            const float per_unit = limit > 0 ? 32767 / limit : 0;
            for (int column = 0; column < GROUP; column += LANES)
                store(&numbers[group * GROUP + column], rounded(load(start + column) * per_unit));
            scales[group] = limit / 32767;
            sums[group] = sum(total);
        }
    }
};

// The product of ROWS rows of x, from `row` on, with one tile of the weight; `out`: where the first row's goes.
template <int BITS, int ROWS>
inline void multiply_tile(const uint8_t* tile, const Quantized& x, int64_t row, int64_t width, float* out,
                          int64_t out_stride) {
    constexpr int VECTORS = TILE / LANES;
    constexpr int PAIR_BYTES = TILE * 2 * BITS / 8;  // a tile's values of two columns
    constexpr int VALUE_BYTES = GROUP / 2 * PAIR_BYTES;
    constexpr int BLOCK_BYTES = VALUE_BYTES + TILE * 2 * (BITS == 4 ? 2 : 1);  // with scales and, of 4 bits, minimums
    const int64_t groups = width / GROUP;
    floats totals[ROWS][VECTORS] = {};
    for (int64_t group = 0; group < groups; group++) {
        const uint8_t* block = tile + group * BLOCK_BYTES;
        for (int line = 0; line < BLOCK_BYTES; line += CACHE_LINE) prefetch(block + AHEAD + line);
        integers dots[ROWS][VECTORS] = {};
#pragma GCC unroll 4
        for (int pair = 0; pair < GROUP / 2; pair++) {
            const uint8_t* at = block + pair * PAIR_BYTES;
            pairs values[VECTORS];
            if constexpr (BITS == 4)
                for (int part = 0; part < VECTORS / 2; part++) {
                    const pairs both = load_unsigned_pairs(at + part * 2 * LANES);
                    values[part] = both & 15;
                    values[part + VECTORS / 2] = both >> 4;
                }
            else
                for (int part = 0; part < VECTORS; part++) values[part] = load_byte_pairs(at + part * 2 * LANES);
            for (int each = 0; each < ROWS; each++) {
                const pairs elements = broadcast_pair(&x.numbers[(row + each) * width + group * GROUP + 2 * pair]);
                for (int part = 0; part < VECTORS; part++)
                    dots[each][part] = add_dot(elements, values[part], dots[each][part]);
            }
        }
        const float16* scales = reinterpret_cast<const float16*>(block + VALUE_BYTES);
        for (int part = 0; part < VECTORS; part++) {
            const floats scale = load(scales + part * LANES);
            for (int each = 0; each < ROWS; each++)
                totals[each][part] += scale * x.scales[(row + each) * groups + group] *
                                      __builtin_convertvector(dots[each][part], floats);
            if constexpr (BITS == 4) {
                const floats minimum = load(scales + TILE + part * LANES);
                for (int each = 0; each < ROWS; each++)
                    totals[each][part] += minimum * x.sums[(row + each) * groups + group];
            }
        }
    }
    for (int each = 0; each < ROWS; each++)
        for (int part = 0; part < VECTORS; part++) store(out + each * out_stride + part * LANES, totals[each][part]);
}

template <int BITS>
void multiply_tiles(const uint8_t* weight, const Quantized& x, int64_t rows, int64_t width, int64_t tiles, float* out,
                    int64_t workers) {
    constexpr int MOST = LANES == 16 ? 4 : 2;  // rows whose sums find room in the CPU's registers
    const int64_t tile_bytes = width / GROUP * (TILE * GROUP * BITS / 8 + TILE * 2 * (BITS == 4 ? 2 : 1));
    const int64_t out_stride = tiles * TILE;
    in_parallel(tiles, workers, [&](int64_t tile) {
        const uint8_t* at = weight + tile * tile_bytes;
        float* columns = out + tile * TILE;
        int64_t row = 0;
        for (; row + MOST <= rows; row += MOST)
            multiply_tile<BITS, MOST>(at, x, row, width, columns + row * out_stride, out_stride);
        for (; row + 2 <= rows; row += 2)
            multiply_tile<BITS, 2>(at, x, row, width, columns + row * out_stride, out_stride);
        if (row < rows) multiply_tile<BITS, 1>(at, x, row, width, columns + row * out_stride, out_stride);
    });
}

// out [rows, tiles * TILE] = x [rows, width] times the packed weight, plus the bias [columns], if there is one.
inline void quantized_linear(int64_t bits, const uint8_t* weight, const float* bias, const float* x, int64_t rows,
                             int64_t width, int64_t columns, float* out, int64_t workers) {
    const int64_t tiles = (columns + TILE - 1) / TILE;
    const Quantized quantized(x, rows, width);
    const auto multiply = bits == 4 ? multiply_tiles<4> : multiply_tiles<8>;
    multiply(weight, quantized, rows, width, tiles, out, workers);
    for (int64_t row = 0; bias != nullptr && row < rows; row++, out += tiles * TILE)
        for (int64_t column = 0; column < columns; column++) out[column] += bias[column];
}
