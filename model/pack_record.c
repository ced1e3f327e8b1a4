// SPDX-License-Identifier: MIT
#include "model/pack_record.h"

#include "model/file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int refuse(const struct checkpoint *ck, const struct tensor *tensor, int64_t element,
                  const char *what, struct fault *fault)
{
    return fault_set(fault, EBADMSG,
                     "%s: tensor %.128s: element %" PRId64 " is %s; fetch this file again",
                     file_label(safetensors_path(checkpoint_file(ck, tensor->file_idx))),
                     tensor->name, element, what);
}

// matrix_fill copies rows to rows of a multiple of 16 columns.
static void matrix_fill(const struct tensor_spec *spec, enum dtype from, enum dtype to,
                        const uint8_t *src, uint8_t *dst)
{
    uint64_t src_row = (uint64_t)spec->cols * dtype_bytes[from];
    uint64_t dst_row = ((uint64_t)spec->cols + 15) / 16 * 16 * dtype_bytes[to];

    if (from == to && src_row == dst_row) {
        memcpy(dst, src, spec->rows * src_row);
        return;
    }
    for (uint32_t row = 0; row < spec->rows; row++, src += src_row, dst += dst_row)
        if (from == to)
            memcpy(dst, src, src_row);
        else
            checkpoint_dtype_to_f32(from, src, spec->cols, (float *)(void *)dst);
}

int pack_record_fill(const struct checkpoint *ck, const struct pack_layout *layout,
                     const struct expert_bytes *expert, uint8_t *record, struct fault *fault)
{
    const uint64_t weight[] = {layout->gate, layout->up, layout->down};
    const uint64_t scale[] = {layout->gate_scale, layout->up_scale, layout->down_scale};

    for (unsigned i = 0; i < 3; i++) {
        const struct tensor *tensor = expert->tensor[i], *scales = expert->tensor[3 + i];
        // F16 alone is widened; pack_manifest_make has let no other mixture through.
        assert(tensor->dtype == layout->dtype || tensor->dtype == DTYPE_F16);
        if (tensor->dtype == DTYPE_F8_E4M3) {
            int64_t bad = checkpoint_fp8_nan_find(expert->part[i], expert->bytes[i]);
            if (bad >= 0)
                return refuse(ck, tensor, bad, "a NaN code", fault);
        }
        matrix_fill(&expert->spec[i], tensor->dtype, layout->dtype, expert->part[i],
                    record + weight[i]);
        if (!scales)
            continue;
        float *to = (float *)(void *)(record + scale[i]);
        memcpy(to, expert->part[3 + i], expert->bytes[3 + i]);
        int64_t bad = checkpoint_scale_bad_find(to, expert->bytes[3 + i] / sizeof(*to));
        if (bad >= 0)
            return refuse(ck, scales, bad, "not a finite positive scale", fault);
    }
    return 0;
}
