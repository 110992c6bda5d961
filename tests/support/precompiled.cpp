// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The one file that is compiled with the headers that all tests share, so that CMake makes their
// precompiled form.
