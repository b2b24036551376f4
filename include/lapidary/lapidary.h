// Lapidary: Gemma 3 on the CPU, cut to shape by the compiler. This is the list of what a program
// that runs a model needs. A program that only reads, converts or tokenises includes those headers
// alone: they compile without SIMD kernels.
#ifndef LAPIDARY_LAPIDARY_H_
#define LAPIDARY_LAPIDARY_H_

// base
#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/threads.h"
#include "lapidary/version.h"
// config
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/config/precision.h"
// vision; a program that reads image files includes lapidary/vision/image.h itself
#include "lapidary/vision/image_embedding.h"
#include "lapidary/vision/picture.h"
// text
#include "lapidary/text/chat_template.h"
#include "lapidary/text/prompt.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/text/utf8_stream.h"
// weights
#include "lapidary/weights/weight_file.h"
// model and generate, compiled for the instruction set that the compiler was told (-march)
#include "lapidary/generate/batch-inl.h"
#include "lapidary/generate/chat-inl.h"
#include "lapidary/generate/embed-inl.h"
#include "lapidary/generate/generate-inl.h"
#include "lapidary/generate/likelihood-inl.h"
#include "lapidary/generate/sampler-inl.h"
#include "lapidary/generate/speculation.h"
#include "lapidary/model/model-inl.h"

namespace lapidary {
namespace HWY_NAMESPACE {

// Name of that instruction set, such as "AVX3_ZEN4".
inline const char* StaticTargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE

using HWY_STATIC_DISPATCH(Chat);
using HWY_STATIC_DISPATCH(Continue);
using HWY_STATIC_DISPATCH(Embed);
using HWY_STATIC_DISPATCH(Generate);
using HWY_STATIC_DISPATCH(GenerateBatch);
using HWY_STATIC_DISPATCH(Model);
using HWY_STATIC_DISPATCH(Score);
using HWY_STATIC_DISPATCH(Session);
using HWY_STATIC_DISPATCH(StaticTargetName);

}  // namespace lapidary

#endif  // LAPIDARY_LAPIDARY_H_
