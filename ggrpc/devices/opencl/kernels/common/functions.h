// Activation functions and gated units of float32.

// For x of type float or float16.
#define SWISH(x, slope) ((x) / (1 + exp(-(slope) * (x))))
#define SILU(x) ((x) / (1 + exp(-(x))))
#define GELU_QUICK(x) SWISH(x, 1.702f)
#define GELU(x) ((x) / (1 + exp((x) * (-1.5957691216f - 0.0713548162726f * (x) * (x)))))
#define RELU(x) fmax((x), 0.0f)
#define ELU(x) (fmax((x), 0.0f) + expm1(fmin((x), 0.0f)))
#define SIGMOID(x) (1 / (1 + exp(-(x))))
#define HARDSIGMOID(x) fmin(fmax(((x) + 3) * (1 / 6.0f), 0.0f), 1.0f)
#define HARDSWISH(x) ((x) * HARDSIGMOID(x))
#define TANH(x) tanh(x)
#define EXP(x) exp(x)
#define EXPM1(x) expm1(x)
#define NEG(x) (-(x))
#define ABS(x) fabs(x)
#define SGN(x) sign(x)
#define STEP(x) ceil(fmin(fmax((x), 0.0f), 1.0f))
#define FLOOR(x) floor(x)
#define CEIL(x) ceil(x)
#define ROUND(x) round(x)
#define TRUNC(x) trunc(x)
#define SOFTPLUS(x) (fmax((x), 0.0f) + log1p(exp(-fabs(x))))

// max(x, 0) - |x erfc(|x| / sqrt(2)) / 2|. erfc is Abramowitz and Stegun 7.1.26, as in the
// cpu device's kernel.
#define ERFC(t, x)                                                                    \
    (((((1.061405429f * (t) - 1.453152027f) * (t) + 1.421413741f) * (t) - 0.284496736f) \
      * (t) + 0.254829592f) * (t) * exp(-0.5f * (x) * (x)))
#define GELU_ERF(x) \
    (fmax((x), 0.0f) - 0.5f * fabs((x) * ERFC(1 / (1 + 0.23164189f * fabs(x)), x)))

// CLAMPED uses the variables `slope`, `limit` and `shift`.
#define SWIGLU(gate, up) SILU(gate) * (up)
#define GEGLU(gate, up) GELU(gate) * (up)
#define GEGLU_QUICK(gate, up) GELU_QUICK(gate) * (up)
#define GEGLU_ERF(gate, up) GELU_ERF(gate) * (up)
#define REGLU(gate, up) RELU(gate) * (up)
#define CLAMPED(gate, up) \
    SWISH(fmin((gate), limit), slope) * (fmax(fmin((up), limit), -limit) + shift)
