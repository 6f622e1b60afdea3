// Numbers of 16 bits, which are computed with as float, and what every loop needs to take any type of them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

struct bfloat16 {
    uint16_t bits;  // the upper half of a float's

    bfloat16() = default;
    explicit bfloat16(float number) {  // to the nearest, ties to even
        const uint32_t wide = std::bit_cast<uint32_t>(number);
        const uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
        bits = static_cast<uint16_t>((wide & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);  // a NaN stays one
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

#ifdef __aarch64__
using float16 = __fp16;
#else
using float16 = _Float16;
#endif

// A number of 8 bits with 4 of exponent and 3 of mantissa, e4m3 without infinities (Micikevicius et al. 2022). Its bits
// are those of a float that is 2 ** -120 times as large, cut to 3 bits of mantissa.
struct fp8 {
    uint8_t bits;

    fp8() = default;
    explicit fp8(float number) {  // to the nearest, ties to even; what is too large to the largest
        const float bounded = number > 448.0f ? 448.0f : number < -448.0f ? -448.0f : number;
        const uint32_t wide = std::bit_cast<uint32_t>(bounded * 0x1p-120f);
        const uint32_t rounded = ((wide & 0x7fffffff) + 0x7ffff + ((wide >> 20) & 1)) >> 20;
        bits = static_cast<uint8_t>((wide >> 24 & 0x80) | rounded);
    }
    explicit operator float() const {
        const uint32_t wide = static_cast<uint32_t>(bits & 0x80) << 24 | static_cast<uint32_t>(bits & 0x7f) << 20;
        return std::bit_cast<float>(wide) * 0x1p120f;
    }
};

struct int8 {
    int8_t number;

    int8() = default;
    explicit int8(float wide) {  // to the nearest, ties to even; what is too large to the largest
        const float bounded = wide > 127.0f ? 127.0f : wide < -127.0f ? -127.0f : wide;
        number = static_cast<int8_t>(std::nearbyint(bounded));
    }
    explicit operator float() const { return number; }
};

// As octavo_kernels.native names torch's types.
enum Type : int64_t { FLOAT32, BFLOAT16, FLOAT16, FP8, INT8 };

// Calls `loop` with a null pointer to the C++ type of that name.
template <class Loop>
void with_type(int64_t type, Loop loop) {
    switch (type) {
        case BFLOAT16: return loop(static_cast<bfloat16*>(nullptr));
        case FLOAT16: return loop(static_cast<float16*>(nullptr));
        default: return loop(static_cast<float*>(nullptr));
    }
}

// The same for the types of a KV cache.
template <class Loop>
void with_cache_type(int64_t type, Loop loop) {
    switch (type) {
        case FP8: return loop(static_cast<fp8*>(nullptr));
        case INT8: return loop(static_cast<int8*>(nullptr));
        default: return with_type(type, loop);
    }
}

// e ** x for x <= 0 within 2e-7 of it, in instructions that a loop runs for many numbers at once, which the C library's
// function is not. Method: 2 ** whole * 2 ** fraction, the second by its Taylor series.
inline float exponential(float x) {
    const float scaled = x * 1.4426950408889634f;
    const float y = scaled < -126.0f ? -126.0f : scaled;
    const float whole = std::floor(y);
    const float t = (y - whole) * 0.6931471805599453f;
    float series = 1.0f / 5040;
    series = series * t + 1.0f / 720;
    series = series * t + 1.0f / 120;
    series = series * t + 1.0f / 24;
    series = series * t + 1.0f / 6;
    series = series * t + 0.5f;
    series = series * t + 1.0f;
    series = series * t + 1.0f;
    return series * std::bit_cast<float>((static_cast<int32_t>(whole) + 127) << 23);
}
