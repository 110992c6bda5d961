// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Empty. Clang's wrapper of the CUDA headers includes a file of this name, which toolkits of CUDA 12
// and later no longer have; run.sh lets it find this one where it finds no other.
#pragma once
