// exp, silu and tanh on vectors, to the last digit or two; NaN stays NaN.
#pragma once
#include "vector.h"

namespace {

inline Vector splat(REAL value) { return Vector{} + value; }
inline Vector clamp(Vector x, REAL low, REAL high) {
    x = x < low ? splat(low) : x;  // comparisons with NaN are false
    return x > high ? splat(high) : x;
}

// 2^n p(r) with x = n ln 2 + r, |r| <= ln(2) / 2, and p the Taylor polynomial of exp.
inline Vector exp_of(Vector x) {
    constexpr bool single = sizeof(REAL) == 4;
    constexpr int mantissa = single ? 23 : 52, degree = single ? 7 : 13;
    typedef std::conditional_t<single, int32_t, int64_t> Integer;
    typedef Integer Integers __attribute__((vector_size(VECTOR_BYTES)));
    x = clamp(x, single ? REAL(-87) : REAL(-708), single ? REAL(88) : REAL(709));
    // Adding 1.5 * 2^mantissa rounds to the nearest integer, which then stands in the low bits.
    const REAL magic = REAL(1.5) * REAL(Integer(1) << mantissa);
    const Vector shifted = x * REAL(1.4426950408889634) + magic, n = shifted - magic;
    const REAL high = single ? REAL(0.693359375) : REAL(0.693145751953125);
    const REAL low = single ? REAL(-2.12194440054690583e-4) : REAL(1.42860682030941723212e-6);
    const Vector r = (x - n * high) - n * low;
    static constexpr double inverse_factorial[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
        1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
    Vector p = splat(REAL(inverse_factorial[degree]));
    unroll<degree>([&](auto i) { p = p * r + REAL(inverse_factorial[degree - 1 - i]); });
    Integers bits, offset;
    memcpy(&bits, &shifted, sizeof bits);
    const Vector zero = splat(magic);
    memcpy(&offset, &zero, sizeof offset);
    Integers exponent;
    memcpy(&exponent, &p, sizeof exponent);
    exponent += (bits - offset) << mantissa;
    memcpy(&p, &exponent, sizeof p);
    return p;
}

inline Vector sigmoid(Vector x) { return REAL(1) / (REAL(1) + exp_of(-x)); }

// Scaled to unit second moment as nn/activations.py has them.
constexpr REAL SILU_MOMENT = REAL(1.6791767923989418), TANH_MOMENT = REAL(1.5937334472592695);

inline Vector silu(Vector x) { return SILU_MOMENT * x * sigmoid(x); }
inline Vector silu_slope(Vector x) {
    const Vector s = sigmoid(x);
    return SILU_MOMENT * s * (REAL(1) + x * (REAL(1) - s));
}
inline Vector silu_curvature(Vector x) {
    const Vector s = sigmoid(x), ds = s * (REAL(1) - s);
    return SILU_MOMENT * ds * (REAL(2) + x * (REAL(1) - s - s));
}
inline Vector tanh_of(Vector x) { return REAL(1) - REAL(2) / (exp_of(x + x) + REAL(1)); }

}  // namespace
