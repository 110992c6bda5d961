// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

// FAKE_CUDA_ASAN is defined where memory can be poisoned.
#if defined(__SANITIZE_ADDRESS__)
#define FAKE_CUDA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAKE_CUDA_ASAN 1
#endif
#endif
#if defined(FAKE_CUDA_ASAN)
#include <sanitizer/asan_interface.h>
#endif
