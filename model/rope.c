// SPDX-License-Identifier: MIT
#include "model/rope.h"

#include <math.h>

uint32_t rope_dim(const struct model_config *config)
{
    return config->arch == MODEL_ARCH_DEEPSEEK_V3 ? config->qk_rope_head_dim : config->head_dim;
}

static double yarn_dim(const struct rope_config *rope, double dim, double rotations)
{
    return dim * log(rope->original_max_position_embeddings / (2.0 * M_PI * rotations)) /
           (2.0 * log(rope->theta));
}

static void yarn_apply(const struct rope_config *rope, uint32_t dim, double *freq, double *ret_low,
                       double *ret_high)
{
    double low = fmax(floor(yarn_dim(rope, dim, rope->beta_fast)), 0.0);
    double high = fmin(ceil(yarn_dim(rope, dim, rope->beta_slow)), dim - 1.0);
    if (ret_low)
        *ret_low = low;
    if (ret_high)
        *ret_high = high;
    if (low == high)
        high += 0.001;
    for (uint32_t i = 0; i < dim / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
        freq[i] = freq[i] * (1.0 - ramp) + freq[i] / rope->factor * ramp;
    }
}

static void llama3_apply(const struct rope_config *rope, uint32_t dim, double *freq)
{
    double original = rope->original_max_position_embeddings;
    for (uint32_t i = 0; i < dim / 2; i++) {
        double wavelength = 2.0 * M_PI / freq[i];
        if (wavelength < original / rope->high_freq_factor)
            continue;
        if (wavelength > original / rope->low_freq_factor) {
            freq[i] /= rope->factor;
            continue;
        }
        double smooth = (original / wavelength - rope->low_freq_factor) /
                        (rope->high_freq_factor - rope->low_freq_factor);
        freq[i] = freq[i] * smooth + freq[i] / rope->factor * (1.0 - smooth);
    }
}

void rope_frequencies(const struct model_config *config, double *ret, double *ret_low,
                      double *ret_high)
{
    const struct rope_config *rope = &config->rope;
    uint32_t dim = rope_dim(config);
    for (uint32_t i = 0; i < dim / 2; i++)
        ret[i] = pow(rope->theta, -2.0 * i / dim);
    if (rope->type == ROPE_SCALING_YARN)
        yarn_apply(rope, dim, ret, ret_low, ret_high);
    else if (rope->type == ROPE_SCALING_LLAMA3)
        llama3_apply(rope, dim, ret);
}

static double yarn_mscale(double factor, double mscale)
{
    return factor > 1.0 ? 0.1 * mscale * log(factor) + 1.0 : 1.0;
}

void rope_table(const struct model_config *config, uint32_t positions, float *ret)
{
    const struct rope_config *rope = &config->rope;
    uint32_t half = rope_dim(config) / 2;
    double freq[512], ratio = 1.0; // head dimensions are checked to be at most 1024
    rope_frequencies(config, freq, NULL, NULL);
    if (rope->type == ROPE_SCALING_YARN)
        ratio = yarn_mscale(rope->factor, rope->mscale) /
                yarn_mscale(rope->factor, rope->mscale_all_dim);
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t i = 0; i < half; i++) {
            double angle = p * freq[i];
            *ret++ = (float)(cos(angle) * ratio);
            *ret++ = (float)(sin(angle) * ratio);
        }
}

float rope_softmax_scale(const struct model_config *config)
{
    if (config->arch != MODEL_ARCH_DEEPSEEK_V3)
        return (float)(1.0 / sqrt(config->head_dim));
    double scale = 1.0 / sqrt(config->qk_nope_head_dim + config->qk_rope_head_dim);
    double m = config->rope.type == ROPE_SCALING_YARN && config->rope.mscale_all_dim != 0.0
                   ? yarn_mscale(config->rope.factor, config->rope.mscale_all_dim)
                   : 1.0;
    return (float)(scale * m * m);
}
