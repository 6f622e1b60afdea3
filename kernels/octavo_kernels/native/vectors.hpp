// Vectors as wide as the CPU's registers, where the compiler does not find by itself what to compute at once. They are
// the compiler's own (gcc.gnu.org/onlinedocs/gcc/Vector-Extensions.html): +, * and > work lane by lane.
#pragma once

#include <cstring>

#include "numbers.hpp"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined(__AVX512BW__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int CACHE_LINE = 64;  // bytes

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef int16_t pairs __attribute__((vector_size(4 * LANES)));  // LANES times two neighbours
typedef int8_t bytes __attribute__((vector_size(2 * LANES)));
typedef int16_t shorts __attribute__((vector_size(2 * LANES)));
typedef float four_floats __attribute__((vector_size(16)));

template <class Vector>
inline Vector load_raw(const void* memory) {
    Vector vector;
    std::memcpy(&vector, memory, sizeof vector);
    return vector;
}

inline floats load(const float* memory) { return load_raw<floats>(memory); }

inline floats load(const bfloat16* memory) {
    typedef uint16_t upper_halves __attribute__((vector_size(2 * LANES)));
    typedef uint32_t words __attribute__((vector_size(4 * LANES)));
    return std::bit_cast<floats>(__builtin_convertvector(load_raw<upper_halves>(memory), words) << 16);
}

inline floats load(const float16* memory) {
#if defined(__AVX512BW__)
    return _mm512_cvtph_ps(load_raw<__m256i>(memory));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(load_raw<__m128i>(memory));
#else
    floats vector;
    for (int lane = 0; lane < LANES; lane++) vector[lane] = static_cast<float>(memory[lane]);
    return vector;
#endif
}

inline floats load(const fp8* memory) {
    typedef uint8_t bytes __attribute__((vector_size(LANES)));
    typedef uint32_t words __attribute__((vector_size(4 * LANES)));
    const words wide = __builtin_convertvector(load_raw<bytes>(memory), words);
    return std::bit_cast<floats>((wide & 0x80) << 24 | (wide & 0x7f) << 20) * 0x1p120f;
}

inline floats load(const int8* memory) {
    typedef int8_t bytes __attribute__((vector_size(LANES)));
    return __builtin_convertvector(load_raw<bytes>(memory), floats);
}

template <class Element, class Vector>
inline void store(Element* memory, Vector vector) {
    std::memcpy(memory, &vector, sizeof vector);
}

inline floats broadcast(float number) { return number - floats{}; }

inline floats greater(floats x, floats y) { return x > y ? x : y; }  // y where x is a NaN

inline floats magnitude(floats x) { return std::bit_cast<floats>(std::bit_cast<integers>(x) & 0x7fffffff); }

// The nearest integers, ties to even, of numbers below 2 ** 15: from 1.5 * 2 ** 23 on a float has no fraction.
inline shorts rounded(floats x) {
    return __builtin_convertvector(std::bit_cast<integers>(x + 12582912.0f) - 0x4b400000, shorts);
}

inline pairs broadcast_pair(const int16_t* memory) {
    int32_t pair;
    std::memcpy(&pair, memory, sizeof pair);
    return std::bit_cast<pairs>(pair - integers{});
}

// 2 * LANES signed bytes.
inline pairs load_byte_pairs(const uint8_t* memory) {
    return __builtin_convertvector(load_raw<bytes>(memory), pairs);
}

// 2 * LANES bytes as they are.
inline pairs load_unsigned_pairs(const uint8_t* memory) {
    typedef uint8_t unsigned_bytes __attribute__((vector_size(2 * LANES)));
    return __builtin_convertvector(load_raw<unsigned_bytes>(memory), pairs);
}

// LANES bytes as numbers. The compiler would convert them one by one.
inline floats load_signed_bytes(const uint8_t* memory) {
#if defined(__AVX512BW__)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_raw<__m128i>(memory)));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(memory))));
#else
    floats found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = static_cast<int8_t>(memory[lane]);
    return found;
#endif
}

inline floats load_unsigned_bytes(const uint8_t* memory) {
#if defined(__AVX512BW__)
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_raw<__m128i>(memory)));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(memory))));
#else
    floats found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = memory[lane];
    return found;
#endif
}

// Of 16 numbers those that the indices, from 0 to 15, name.
inline pairs looked_up(const int8_t* numbers, bytes indices) {
#if defined(__AVX2__) && defined(__AVX512BW__)
    const __m256i table = _mm256_broadcastsi128_si256(load_raw<__m128i>(numbers));
    return __builtin_convertvector(
        std::bit_cast<bytes>(_mm256_shuffle_epi8(table, std::bit_cast<__m256i>(indices))), pairs);
#elif defined(__AVX2__)
    const __m128i table = load_raw<__m128i>(numbers);
    return __builtin_convertvector(std::bit_cast<bytes>(_mm_shuffle_epi8(table, std::bit_cast<__m128i>(indices))),
                                   pairs);
#else
    pairs found;
    for (int lane = 0; lane < 2 * LANES; lane++) found[lane] = numbers[indices[lane]];
    return found;
#endif
}

// Of each lane's pairs (a, b) and (c, d), a * c + b * d + sum.
inline integers add_dot(pairs x, pairs y, integers sum) {
#if defined(__AVX512BW__)
    return sum + std::bit_cast<integers>(_mm512_madd_epi16(std::bit_cast<__m512i>(x), std::bit_cast<__m512i>(y)));
#elif defined(__AVX2__)
    return sum + std::bit_cast<integers>(_mm256_madd_epi16(std::bit_cast<__m256i>(x), std::bit_cast<__m256i>(y)));
#elif defined(__SSE2__)
    return sum + std::bit_cast<integers>(_mm_madd_epi16(std::bit_cast<__m128i>(x), std::bit_cast<__m128i>(y)));
#else
    for (int lane = 0; lane < LANES; lane++) sum[lane] += x[2 * lane] * y[2 * lane] + x[2 * lane + 1] * y[2 * lane + 1];
    return sum;
#endif
}

// Sums of lanes that lie four apart.
inline four_floats fold(floats x) {
#if defined(__AVX512BW__)
    typedef float eight_floats __attribute__((vector_size(32)));
    const eight_floats half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                              __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
    return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
#else
    return x;
#endif
}

// The sums of four vectors' lanes, in a third of the work of summing each by itself.
inline four_floats sums(floats a, floats b, floats c, floats d) {
    const four_floats p = fold(a), q = fold(b), r = fold(c), s = fold(d);
    const four_floats pq = __builtin_shufflevector(p, q, 0, 4, 1, 5) + __builtin_shufflevector(p, q, 2, 6, 3, 7);
    const four_floats rs = __builtin_shufflevector(r, s, 0, 4, 1, 5) + __builtin_shufflevector(r, s, 2, 6, 3, 7);
    return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
}

inline float sum(floats x) {
    const four_floats four = fold(x);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

inline float greatest(floats x) {
    float found = x[0];
    for (int lane = 1; lane < LANES; lane++) found = x[lane] > found ? x[lane] : found;
    return found;
}

inline void prefetch(const void* memory) { __builtin_prefetch(memory); }
