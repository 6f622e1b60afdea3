// paged_decode: a sequence's blocks are read where they lie, once for the keys, once for the values.
#pragma once

#include <algorithm>
#include <vector>

#include "../native/threads.hpp"
#include "../native/vectors.hpp"

// octavo_kernels.paged_decode.cpu.DecodePlan's words.
struct Plan {
    const int32_t* tables;   // [sequences, table_stride]
    const int32_t* lengths;  // [sequences]
    float* scores;           // [sequences, q_heads, longest]
    int64_t sequences, table_stride, longest;
    int64_t parts;  // into how many parts of its KV heads the work on a sequence is cut
    int64_t workers;
};

// [sequences, heads, head_dim], of any type.
struct Heads {
    int64_t type;
    void* memory;
    int64_t sequence_stride, head_stride;

    template <class Use>
    void with_head(int64_t sequence, int64_t head, Use use) const {
        with_type(type, [&]<class T>(T*) {
            use(static_cast<T*>(memory) + sequence * sequence_stride + head * head_stride);
        });
    }
};

struct Attention {
    Heads q, out;
    int64_t block_size, q_heads, kv_heads, head_dim;
    int64_t window;  // 0: none
    float scale, softcap;  // a softcap of 0 is none
    const float* sinks;  // [q_heads]: a score of each head that counts in the softmax alone; null: none
    const float* slopes;  // [q_heads]: of what is added to a head's scores by the keys' distance; null: none
    const float* scales;  // [2, kv_heads]: of the cache's keys, and of its values; null: all 1
};

// tile [slots, width] = one head's numbers of a block's first slots.
template <class T>
inline void widen(const T* head, int64_t slots, int64_t slot_size, int64_t head_dim, int64_t width, float* tile) {
    const int64_t whole = head_dim - head_dim % LANES;
    for (int64_t slot = 0; slot < slots; slot++, head += slot_size, tile += width) {
        for (int64_t element = 0; element < whole; element += LANES) store(tile + element, load(head + element));
        for (int64_t element = whole; element < head_dim; element++) tile[element] = static_cast<float>(head[element]);
    }
}

// The products of a query [width] with a block's keys [slots, width]. Four keys at a time: each part of the query is
// fetched once for them.
inline void score(const float* query, const float* keys, int64_t width, int64_t slots, float* scores) {
    int64_t slot = 0;
    for (; slot + 4 <= slots; slot += 4) {
        const float* key = keys + slot * width;
        floats first{}, second{}, third{}, fourth{};
        for (int64_t element = 0; element < width; element += LANES) {
            const floats x = load(query + element);
            first += x * load(key + element);
            second += x * load(key + width + element);
            third += x * load(key + 2 * width + element);
            fourth += x * load(key + 3 * width + element);
        }
        store(scores + slot, sums(first, second, third, fourth));
    }
    for (; slot < slots; slot++) {
        floats products{};
        for (int64_t element = 0; element < width; element += LANES)
            products += load(query + element) * load(keys + slot * width + element);
        scores[slot] = sum(products);
    }
}

// Of the scores and of a sink, if there is one.
inline void softmax(float* scores, int64_t count, const float* sink) {
    const int64_t whole = count - count % LANES;
    floats tops = broadcast(scores[0]);
    for (int64_t position = 0; position < whole; position += LANES) tops = greater(load(scores + position), tops);
    float top = greatest(tops);
    for (int64_t position = whole; position < count; position++) top = scores[position] > top ? scores[position] : top;
    if (sink && *sink > top) top = *sink;
    float total = sink ? exponential(*sink - top) : 0;
    for (int64_t position = 0; position < count; position++) {
        scores[position] = exponential(scores[position] - top);
        total += scores[position];
    }
    for (int64_t position = 0; position < count; position++) scores[position] /= total;
}

// Adds to sums [width] a block's values [slots, width], weighted by their scores.
inline void weigh(const float* scores, const float* values, int64_t width, int64_t slots, float* sums) {
    for (int64_t element = 0; element < width; element += LANES) {
        floats even = load(sums + element), odd{};
        int64_t slot = 0;
        for (; slot + 2 <= slots; slot += 2) {
            even += scores[slot] * load(values + slot * width + element);
            odd += scores[slot + 1] * load(values + (slot + 1) * width + element);
        }
        if (slot < slots) even += scores[slot] * load(values + slot * width + element);
        store(sums + element, even + odd);
    }
}

// softcap * tanh(score / softcap), from the exponential of numbers below 0 alone, where it cannot overflow.
inline void cap(float* scores, int64_t count, float softcap) {
    for (int64_t position = 0; position < count; position++) {
        const float score = scores[position];
        const float small = exponential(-2 * std::fabs(score) / softcap);
        scores[position] = std::copysign(softcap * (1 - small) / (1 + small), score);
    }
}

// Adds slope * (position - the newest one's) to the scores of the last positions, the newest behind the others.
inline void slant(float* scores, int64_t count, float slope) {
    for (int64_t place = 0; place < count; place++) scores[place] += slope * static_cast<float>(place - (count - 1));
}

// Calls `use` with each block of a sequence from that of position `first` on: its place in the cache, its first
// position, and how many of its slots are in use. Asks for `numbers` numbers of each slot of the next block while this
// one is computed with: the CPU does not foresee which block comes next.
template <class T, class Use>
inline void each_block(const T* cache, const int32_t* table, int64_t first, int64_t length, int64_t block_size,
                       int64_t slot_size, int64_t numbers, Use use) {
    table += first / block_size;
    for (int64_t position = first / block_size * block_size; position < length; position += block_size, table++) {
        if (position + block_size < length) {
            const T* next = cache + table[1] * block_size * slot_size;
            for (int64_t slot = 0; slot < block_size; slot++) {
                const char* line = reinterpret_cast<const char*>(next + slot * slot_size);
                for (size_t byte = 0; byte < numbers * sizeof(T); byte += CACHE_LINE) prefetch(line + byte);
            }
        }
        use(cache + table[0] * block_size * slot_size, position, std::min(block_size, length - position));
    }
}

// One part of a sequence's KV heads, with the query heads that read them.
template <class T>
void attend_part(const T* k_cache, const T* v_cache, const Attention& with, const Plan& plan, int64_t sequence,
                 int64_t first_head) {
    const int64_t heads = with.kv_heads / plan.parts, group = with.q_heads / with.kv_heads, rows = heads * group;
    const int64_t head_dim = with.head_dim, slot_size = with.kv_heads * head_dim, length = plan.lengths[sequence];
    const int64_t width = (head_dim + LANES - 1) / LANES * LANES;  // a head's numbers in whole vectors
    const int64_t first = with.window > 0 && length > with.window ? length - with.window : 0;  // position in sight
    const int64_t first_row = first_head * group;
    float* scores = plan.scores + (sequence * with.q_heads + first_row) * plan.longest;
    std::vector<float> tile(with.block_size * width), queries(rows * width), sums(rows * width);
    const auto scale_of = [&](int64_t part, int64_t row) {
        return with.scales ? with.scales[part * with.kv_heads + first_head + row / group] : 1.0f;
    };
    for (int64_t row = 0; row < rows; row++)
        with.q.with_head(sequence, first_row + row, [&](const auto* query) {
            const float scale = with.scale * scale_of(0, row);
            for (int64_t element = 0; element < head_dim; element++)
                queries[row * width + element] = static_cast<float>(query[element]) * scale;
        });
    const auto each_head = [&](const T* cache, auto use) {
        const int32_t* table = plan.tables + sequence * plan.table_stride;
        each_block(cache + first_head * head_dim, table, first, length, with.block_size, slot_size, heads * head_dim,
                   [&](const T* block, int64_t position, int64_t slots) {
                       for (int64_t row = 0; row < rows; row++) {
                           if (row % group == 0)
                               widen(block + row / group * head_dim, slots, slot_size, head_dim, width, tile.data());
                           use(row, scores + row * plan.longest + position, slots);
                       }
                   });
    };
    each_head(k_cache, [&](int64_t row, float* found, int64_t slots) {
        score(&queries[row * width], tile.data(), width, slots, found);
    });
    for (int64_t row = 0; row < rows; row++) {
        float* found = scores + row * plan.longest;
        if (with.softcap > 0) cap(found + first, length - first, with.softcap);
        if (with.slopes) slant(found + first, length - first, with.slopes[first_row + row]);
        softmax(found + first, length - first, with.sinks ? with.sinks + first_row + row : nullptr);
        std::fill(found + first / with.block_size * with.block_size, found + first, 0.0f);
    }
    each_head(v_cache, [&](int64_t row, const float* found, int64_t slots) {
        weigh(found, tile.data(), width, slots, &sums[row * width]);
    });
    for (int64_t row = 0; row < rows; row++)
        with.out.with_head(sequence, first_row + row, [&]<class Out>(Out* out) {
            const float scale = scale_of(1, row);
            for (int64_t element = 0; element < head_dim; element++)
                out[element] = static_cast<Out>(sums[row * width + element] * scale);
        });
}

// A worker takes every `workers`-th part: where sequences come in order of length, all have as much to do.
template <class T>
void attend(const T* k_cache, const T* v_cache, const Attention& with, const Plan& plan) {
    const auto attend_to = [&](int64_t part) {
        attend_part(k_cache, v_cache, with, plan, part / plan.parts, part % plan.parts * (with.kv_heads / plan.parts));
    };
    in_parallel(plan.sequences * plan.parts, plan.workers, attend_to, 1);
}
