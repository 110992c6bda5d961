// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/shape.hpp>

/// \file
/// \brief How many threads the linked BLAS would use, and the switch that makes it one.
/// \ingroup host

// The queries of the libraries that have one, under names of ours, so that they get along with the
// libraries' own headers. They are null where the library is not part of the program. Only ELF
// leaves such a symbol open without a word from the user. BLIS returns 32 or 64 bits, as it was
// configured; the number is in the lower half.
#if defined(__ELF__) && defined(__GNUC__)
/// \cond
extern "C" {
int stiefelx_flexiblas_threads() __asm__("flexiblas_get_num_threads") __attribute__((weak));
int stiefelx_trampoline_threads() __asm__("lbt_get_num_threads") __attribute__((weak));
int stiefelx_openblas_threads() __asm__("openblas_get_num_threads") __attribute__((weak));
int stiefelx_openblas_kind() __asm__("openblas_get_parallel") __attribute__((weak));
int stiefelx_openmp_threads() __asm__("omp_get_max_threads") __attribute__((weak));
int stiefelx_mkl_threads() __asm__("MKL_Get_Max_Threads") __attribute__((weak));
int stiefelx_nvpl_threads() __asm__("nvpl_blas_get_max_threads") __attribute__((weak));
int stiefelx_blis_threads() __asm__("bli_thread_get_num_threads") __attribute__((weak));
}
/// \endcond
#endif

namespace stiefelx::host {

/// \brief The thread queries of BLAS libraries, null where a library is not part of the program.
/// \ingroup host
///
/// Accelerate, ATLAS and the reference BLAS have none and are not asked: the first two may use
/// several threads without being found.
struct blas_thread_queries {
  int (*flexiblas)() = nullptr;      ///< flexiblas_get_num_threads, of the library behind it
  int (*trampoline)() = nullptr;     ///< lbt_get_num_threads, the most of those behind it
  int (*openblas)() = nullptr;       ///< openblas_get_num_threads
  int (*openblas_kind)() = nullptr;  ///< openblas_get_parallel: 0 none, 1 its own threads, 2 OpenMP
  int (*openmp)() = nullptr;         ///< omp_get_max_threads
  int (*mkl)() = nullptr;            ///< MKL_Get_Max_Threads
  int (*nvpl)() = nullptr;           ///< nvpl_blas_get_max_threads
  int (*blis)() = nullptr;           ///< bli_thread_get_num_threads; -1 where nothing is set
};

/// \brief The queries that this program is linked to.
/// \ingroup host
/// \returns null for every library that is not there, and for all where the linker has no weak
///          symbols
inline blas_thread_queries linked_blas_thread_queries() {
#if defined(__ELF__) && defined(__GNUC__)
  return {.flexiblas = stiefelx_flexiblas_threads,
          .trampoline = stiefelx_trampoline_threads,
          .openblas = stiefelx_openblas_threads,
          .openblas_kind = stiefelx_openblas_kind,
          .openmp = stiefelx_openmp_threads,
          .mkl = stiefelx_mkl_threads,
          .nvpl = stiefelx_nvpl_threads,
          .blis = stiefelx_blis_threads};
#else
  return {};
#endif
}

/// \brief A BLAS and how it uses threads.
/// \ingroup host
struct blas_threading {
  char const* library = "";     ///< its name; empty when none answers
  int count = 1;                ///< threads of one call at most
  char const* one_thread = "";  ///< what makes it one
};

/// \brief Asks the libraries for their threads.
/// \ingroup host
/// \param[in] ask  queries, null where there is none
/// \returns the first that would use more than one thread, or else the first that answers
inline blas_threading find_blas_threads(blas_thread_queries const& ask) {
  // With OpenMP its own number is a copy of an old one: every call follows OpenMP's.
  bool const follows_openmp =
      ask.openblas_kind != nullptr && ask.openblas_kind() == 2 && ask.openmp != nullptr;
  blas_threading first;
  auto const answer = [&](int (*query)(), char const* library, char const* one_thread) {
    if (query == nullptr || first.count > 1) return;
    int const count = query();
    if (count > 1 || *first.library == '\0') first = {library, count, one_thread};
  };
  // Those that stand in front of others come first, since they answer to the others' names too.
  answer(
      ask.flexiblas, "FlexiBLAS",
      "set the threads of the library behind it to 1, for OpenBLAS by OPENBLAS_NUM_THREADS=1, or "
      "call flexiblas_set_num_threads(1)");
  answer(
      ask.trampoline, "libblastrampoline",
      "set the threads of the library behind it to 1, for OpenBLAS by OPENBLAS_NUM_THREADS=1, or "
      "call lbt_set_num_threads(1)");
  if (follows_openmp)
    answer(ask.openmp, "OpenBLAS on OpenMP",
           "set OMP_NUM_THREADS=1 or call omp_set_num_threads(1)");
  else
    answer(ask.openblas, "OpenBLAS",
           "set OPENBLAS_NUM_THREADS=1 or call openblas_set_num_threads(1)");
  answer(ask.mkl, "MKL", "set MKL_NUM_THREADS=1 or call mkl_set_num_threads(1)");
  answer(ask.nvpl, "NVPL BLAS", "set OMP_NUM_THREADS=1 or call nvpl_blas_set_num_threads(1)");
  answer(ask.blis, "BLIS", "set BLIS_NUM_THREADS=1 or call bli_thread_set_num_threads(1)");
  return first;
}

/// \brief Throws when a BLAS would use several threads.
/// \ingroup host
///
/// Then its sums may depend on their number, and no context can promise the same bits for any number
/// of its own threads.
/// \param[in] function  name of the public function, for the text
/// \param[in] found     what find_blas_threads() returned
/// \throws option_error  naming the library, its threads, the switch, and the way to allow it
inline void expect_one_blas_thread(char const* function, blas_threading const& found) {
  if (found.count <= 1) return;
  std::string const threads =
      std::string(found.library) + " with " + std::to_string(found.count) + " threads";
  std::string const expected =
      std::string("one thread (") + found.one_thread + ") or determinism::this_thread_count";
  detail::throw_option(function, "the BLAS", threads, expected.c_str());
}

}  // namespace stiefelx::host
