// The order in which quantized_linear reads a weight, and how it comes into it.
#pragma once

#include <cstring>

#include "../native/threads.hpp"
#include "cpu.hpp"

// What a weight [rows, width] is packed from; factors [kinds, rows, blocks]. See octavo_kernels.quantized_linear.
struct Groups {
    const uint8_t* values;
    const uint8_t* scales;
    const uint8_t* minimums;
    const float16* factors;
    int64_t rows, width;
};

// The values of a pair of columns, row by row: `at` the first row's, of `count` rows.
template <class L>
void pack_pair(const uint8_t* values, int64_t count, int64_t width, int pair, uint8_t* section) {
    uint8_t* out = section + L::UPPER_BYTES + pair * L::PAIR_BYTES;
    std::memset(out, 0, L::PAIR_BYTES);
    for (int64_t row = 0; row < count; row++)
        for (int column = 0; column < 2; column++) {
            const uint8_t value = values[row * width + column];
            if constexpr (L::BITS == 8) {
                out[2 * row + column] = value;
            } else {
                out[2 * (row % (TILE / 2)) + column] |= (value & 15) << (row < TILE / 2 ? 0 : 4);
                if constexpr (L::UPPER_BITS > 0) section[2 * row + column] |= value >> 4 << pair * L::UPPER_BITS;
            }
        }
}

template <class L>
void pack_tile(const Groups& groups, int64_t tile, uint8_t* out) {
    const int64_t first = tile * TILE, count = std::min<int64_t>(TILE, groups.rows - first);
    const int64_t blocks = groups.width / L::COLUMNS, each = groups.width / L::GROUP;
    std::memset(out, 0, blocks * L::BLOCK_BYTES);
    for (int64_t block = 0; block < blocks; block++, out += L::BLOCK_BYTES) {
        if constexpr (L::NESTED)
            for (int kind = 0; kind < L::KINDS; kind++)
                for (int64_t row = 0; row < count; row++)
                    std::memcpy(out + 2 * (kind * TILE + row),
                                groups.factors + (kind * groups.rows + first + row) * blocks + block, 2);
        for (int inner = 0; inner < L::GROUPS; inner++) {
            const int64_t group = block * L::GROUPS + inner;
            uint8_t* start = out + L::HEAD_BYTES + inner * L::GROUP_BYTES;
            for (int pair = 0; pair < L::GROUP / 2; pair++)
                pack_pair<L>(groups.values + first * groups.width + group * L::GROUP + 2 * pair, count, groups.width,
                             pair % L::PAIRS, start + pair / L::PAIRS * L::SECTION_BYTES);
            constexpr int SIZE = L::FACTOR_BYTES / TILE;
            for (int kind = 0; kind < L::KINDS; kind++)
                for (int64_t row = 0; row < count; row++)
                    std::memcpy(start + L::VALUE_BYTES + kind * L::FACTOR_BYTES + row * SIZE,
                                (kind == 0 ? groups.scales : groups.minimums) + ((first + row) * each + group) * SIZE,
                                SIZE);
        }
    }
}

template <class L>
void pack_groups(const Groups& groups, uint8_t* out, int64_t workers) {
    const int64_t tile_bytes = groups.width / L::COLUMNS * L::BLOCK_BYTES;
    in_parallel((groups.rows + TILE - 1) / TILE, workers,
                [&](int64_t tile) { pack_tile<L>(groups, tile, out + tile * tile_bytes); });
}

// out [width]: scale * number(value) + minimum, for groups of one row.
template <int GROUP, class T, class Number>
void dequantize_row(const uint8_t* values, const float* scales, const float* minimums, int64_t width, T* out,
                    Number number) {
    for (int64_t group = 0; group < width / GROUP; group++) {
        const float scale = scales[group], minimum = minimums != nullptr ? minimums[group] : 0.0f;
        for (int column = 0; column < GROUP; column++)
            out[group * GROUP + column] = static_cast<T>(scale * number(values[group * GROUP + column]) + minimum);
    }
}

// The same for all rows; scales and minimums [rows, width / group].
template <class T>
void dequantize_groups(int64_t bits, int64_t group, const Meaning& meaning, const uint8_t* values, const float* scales,
                       const float* minimums, int64_t rows, int64_t width, T* out, int64_t workers) {
    in_parallel(rows, workers, [&](int64_t row) {
        const auto each = [&](auto number) {
            const auto dequantize = group == 16 ? dequantize_row<16, T, decltype(number)>
                                                : dequantize_row<32, T, decltype(number)>;
            const int64_t first = row * (width / group);
            dequantize(values + row * width, scales + first, minimums != nullptr ? minimums + first : nullptr, width,
                       out + row * width, number);
        };
        if (bits == 8)
            each([](uint8_t value) { return static_cast<float>(static_cast<int8_t>(value)); });
        else if (meaning.numbers != nullptr)
            each([numbers = meaning.numbers](uint8_t value) { return static_cast<float>(numbers[value]); });
        else
            each([offset = meaning.offset](uint8_t value) { return value - offset; });
    });
}
