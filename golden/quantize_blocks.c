/* Quantizes with the reference functions of llama.cpp's ggml-quants.c, for quantize_blocks.py.
 *
 *   quantize_blocks TYPE < ELEMENTS > BLOCKS
 *
 * TYPE is a number of enum ggml_type; ELEMENTS are f32, 256 to a group. The functions are those that
 * ggml_quantize_chunk calls without an importance matrix.
 */
#include "ggml-quants.c"

#include <stdarg.h>

/* The only function of ggml's other files that the encoders need. */
void ggml_abort(const char * file, int line, const char * format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    exit(1);
}

static size_t quantize(int type, const float * x, void * y) {
    switch (type) {
    case GGML_TYPE_F16:
        for (int i = 0; i < 256; i++) ((ggml_fp16_t *) y)[i] = GGML_FP32_TO_FP16(x[i]);
        return 512;
    case GGML_TYPE_BF16:
        for (int i = 0; i < 256; i++) ((ggml_bf16_t *) y)[i] = GGML_FP32_TO_BF16(x[i]);
        return 512;
    case GGML_TYPE_Q8_0: quantize_row_q8_0_ref(x, y, 256); return 8 * sizeof(block_q8_0);
    case GGML_TYPE_Q4_0: quantize_row_q4_0_ref(x, y, 256); return 8 * sizeof(block_q4_0);
    case GGML_TYPE_Q4_1: quantize_row_q4_1_ref(x, y, 256); return 8 * sizeof(block_q4_1);
    case GGML_TYPE_Q5_0: quantize_row_q5_0_ref(x, y, 256); return 8 * sizeof(block_q5_0);
    case GGML_TYPE_Q5_1: quantize_row_q5_1_ref(x, y, 256); return 8 * sizeof(block_q5_1);
    /* Not quantize_row_iq4_nl_ref: it searches less, and files are written by this function. */
    case GGML_TYPE_IQ4_NL: return quantize_iq4_nl(x, y, 1, 256, NULL);
    case GGML_TYPE_Q2_K: quantize_row_q2_K_ref(x, y, 256); return sizeof(block_q2_K);
    case GGML_TYPE_Q3_K: quantize_row_q3_K_ref(x, y, 256); return sizeof(block_q3_K);
    case GGML_TYPE_Q4_K: quantize_row_q4_K_ref(x, y, 256); return sizeof(block_q4_K);
    case GGML_TYPE_Q5_K: quantize_row_q5_K_ref(x, y, 256); return sizeof(block_q5_K);
    case GGML_TYPE_Q6_K: quantize_row_q6_K_ref(x, y, 256); return sizeof(block_q6_K);
    case GGML_TYPE_IQ4_XS: quantize_row_iq4_xs_ref(x, y, 256); return sizeof(block_iq4_xs);
    case GGML_TYPE_TQ1_0: quantize_row_tq1_0_ref(x, y, 256); return sizeof(block_tq1_0);
    case GGML_TYPE_TQ2_0: quantize_row_tq2_0_ref(x, y, 256); return sizeof(block_tq2_0);
    default: return 0;
    }
}

int main(int argc, char ** argv) {
    float x[256];
    char y[512];
    if (argc != 2) return 2;
    while (fread(x, sizeof(x), 1, stdin) == 1) {
        const size_t n = quantize(atoi(argv[1]), x, y);
        if (n == 0 || fwrite(y, n, 1, stdout) != 1) return 1;
    }
    return 0;
}
