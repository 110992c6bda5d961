// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/file.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>
#include <string>

#include "tests/examples/temporary_folder.hpp"

namespace {

using example::file_error;
using example::write_text_file;
using namespace example_test;

// Lets no file grow beyond a size.
class size_limit {
 public:
  explicit size_limit(rlim_t size) : signal_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit const limit{size, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~size_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_{};
  void (*signal_)(int);
};

}  // namespace

BOOST_AUTO_TEST_SUITE(file)

BOOST_AUTO_TEST_CASE(error_is_one_line_with_file_expected_and_found) {
  BOOST_TEST(std::string(file_error("a/b", "2 images", "3").what()) ==
             "a/b: expected 2 images, found 3");
  BOOST_TEST(std::string(file_error("a\nb", "c", "\td").what()) == "a?b: expected c, found ?d");
}

BOOST_AUTO_TEST_CASE(content_is_written_to_the_byte) {
  temporary_folder const folder;
  std::string const bytes("a\0b\r\n\xff", 6);
  write_text_file(folder / "f", bytes);
  BOOST_TEST(read_file(folder / "f") == bytes);
  write_text_file(folder / "f", "");
  BOOST_TEST(read_file(folder / "f") == "");
  BOOST_TEST(folder.count() == 1u);
}

BOOST_AUTO_TEST_CASE(others_may_read_the_file_as_the_umask_says) {
  temporary_folder const folder;
  auto const before = ::umask(022);
  write_text_file(folder / "f", "x");
  ::umask(before);
  struct stat status{};
  BOOST_REQUIRE(::stat((folder / "f").c_str(), &status) == 0);
  BOOST_TEST((status.st_mode & 0777u) == 0644u);
}

BOOST_AUTO_TEST_CASE(file_in_a_missing_folder_is_refused) {
  temporary_folder const folder;
  auto const path = folder / "none/f";
  BOOST_TEST(message_of<file_error>([&] { write_text_file(path, "x"); }) ==
             path.string() +
                 ": expected a file that can be written, found No such file or directory");
}

BOOST_AUTO_TEST_CASE(folder_in_the_place_of_the_file_is_refused_and_nothing_stays_behind) {
  temporary_folder const folder;
  std::filesystem::create_directory(folder / "f");
  BOOST_CHECK_THROW(write_text_file(folder / "f", "x"), file_error);
  BOOST_TEST(folder.count() == 1u);
}

BOOST_AUTO_TEST_CASE(failed_write_leaves_the_old_file) {
  temporary_folder const folder;
  write_text_file(folder / "f", "old");
  {
    size_limit const limit(1000);
    BOOST_TEST(
        message_of<file_error>([&] { write_text_file(folder / "f", std::string(100000, 'x')); }) ==
        (folder / "f").string() + ": expected a file that can be written, found File too large");
  }
  BOOST_TEST(read_file(folder / "f") == "old");
  BOOST_TEST(folder.count() == 1u);
}

BOOST_AUTO_TEST_CASE(name_without_folder_is_in_the_current_one) {
  temporary_folder const folder;
  auto const before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  BOOST_CHECK_NO_THROW(write_text_file("f", "x"));
  std::filesystem::current_path(before);
  BOOST_TEST(read_file(folder / "f") == "x");
}

BOOST_AUTO_TEST_SUITE_END()
