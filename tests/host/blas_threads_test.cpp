// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A BLAS that would use threads of its own is refused by name; the libraries are played by functions
// here. tests/host/with_blas.sh does the same with OpenBLAS.

#ifndef STIEFELX_USE_BLAS
#define STIEFELX_USE_BLAS
#endif

#include <string>
#include <string_view>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/blas_threads.hpp>
#include <stiefelx/host/context.hpp>

namespace {

using stiefelx::host::blas_thread_queries;
using stiefelx::host::context;
using stiefelx::host::determinism;
using stiefelx::host::expect_one_blas_thread;
using stiefelx::host::find_blas_threads;

int openblas_threads = 1;

template <int number>
int always() {
  return number;
}

}  // namespace

// What a program that is linked to OpenBLAS has.
extern "C" int openblas_get_num_threads();
extern "C" int openblas_get_num_threads() { return openblas_threads; }

BOOST_AUTO_TEST_SUITE(blas_threads)

BOOST_AUTO_TEST_CASE(a_threaded_blas_is_refused_with_the_name_of_its_switch) {
  struct known {
    blas_thread_queries ask;
    std::string_view library, one_thread;
  };
  for (known const& k :
       {known{{.flexiblas = always<3>}, "FlexiBLAS", "flexiblas_set_num_threads(1)"},
        known{{.trampoline = always<3>}, "libblastrampoline", "lbt_set_num_threads(1)"},
        known{{.openblas = always<3>}, "OpenBLAS", "OPENBLAS_NUM_THREADS=1"},
        known{{.mkl = always<3>}, "MKL", "MKL_NUM_THREADS=1"},
        known{{.nvpl = always<3>}, "NVPL BLAS", "nvpl_blas_set_num_threads(1)"},
        known{{.blis = always<3>}, "BLIS", "BLIS_NUM_THREADS=1"}})
    BOOST_TEST_CONTEXT(k.library) {
      auto const found = find_blas_threads(k.ask);
      BOOST_TEST(found.library == k.library);
      BOOST_TEST(found.count == 3);
      try {
        expect_one_blas_thread("f", found);
        BOOST_ERROR("nothing was thrown");
      } catch (stiefelx::option_error const& error) {
        std::string_view const text = error.what();
        BOOST_TEST(text.starts_with("f: the BLAS is " + std::string(k.library) +
                                    " with 3 threads, expected one thread (set "));
        BOOST_TEST((text.find(k.one_thread) != text.npos));
        BOOST_TEST(text.ends_with(") or determinism::this_thread_count"));
      }
    }
}

BOOST_AUTO_TEST_CASE(a_blas_of_one_thread_and_one_without_a_query_are_taken) {
  BOOST_CHECK_NO_THROW(expect_one_blas_thread("f", find_blas_threads({})));
  auto const one = find_blas_threads({.openblas = always<1>});
  BOOST_TEST(one.library == std::string_view("OpenBLAS"));
  BOOST_CHECK_NO_THROW(expect_one_blas_thread("f", one));
  // BLIS says -1 where nobody asked for threads, and uses one.
  BOOST_CHECK_NO_THROW(expect_one_blas_thread("f", find_blas_threads({.blis = always<-1>})));
}

BOOST_AUTO_TEST_CASE(openblas_on_openmp_has_the_number_of_openmp) {
  auto const several =
      find_blas_threads({.openblas = always<1>, .openblas_kind = always<2>, .openmp = always<4>});
  BOOST_TEST(several.count == 4);
  BOOST_TEST((std::string_view(several.one_thread).find("OMP_NUM_THREADS=1") == 4));
  BOOST_TEST(
      find_blas_threads({.openblas = always<4>, .openblas_kind = always<2>, .openmp = always<1>})
          .count == 1);
  // With threads of its own, OpenMP says nothing about it.
  BOOST_TEST(
      find_blas_threads({.openblas = always<1>, .openblas_kind = always<1>, .openmp = always<4>})
          .count == 1);
}

BOOST_AUTO_TEST_CASE(of_several_libraries_the_threaded_one_is_named) {
  BOOST_TEST(find_blas_threads({.openblas = always<1>, .mkl = always<2>}).library ==
             std::string_view("MKL"));
  BOOST_TEST(find_blas_threads({.flexiblas = always<2>, .openblas = always<2>}).library ==
             std::string_view("FlexiBLAS"));
}

BOOST_AUTO_TEST_CASE(a_context_asks_the_linked_library_when_it_promises_any_number_of_threads) {
  openblas_threads = 1;
  BOOST_CHECK_NO_THROW(context());
  BOOST_CHECK_NO_THROW(context({.threads = 2}));
  openblas_threads = 2;
  BOOST_CHECK_EXCEPTION(context(), stiefelx::option_error, [](stiefelx::option_error const& error) {
    return std::string_view(error.what()) ==
           "host::context: the BLAS is OpenBLAS with 2 threads, expected one thread (set "
           "OPENBLAS_NUM_THREADS=1 or call openblas_set_num_threads(1)) or "
           "determinism::this_thread_count";
  });
  BOOST_CHECK_NO_THROW(context({.same_bits_for = determinism::this_thread_count}));
  // What is wrong with the options themselves is said first.
  BOOST_CHECK_EXCEPTION(
      context({.threads = 0}), stiefelx::option_error, [](stiefelx::option_error const& error) {
        return std::string_view(error.what()).starts_with("host::context: threads is 0");
      });
  openblas_threads = 1;
}

BOOST_AUTO_TEST_SUITE_END()
