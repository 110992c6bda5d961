// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/io/atomic_file.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "files.hpp"

namespace {

using namespace io_test;
using stiefelx::atomic_file;
using stiefelx::format_fault;
using stiefelx::write_file;

constexpr std::string_view partial = ".partial";

bool is_leftover(std::string const& name, std::string const& target) {
  return name.starts_with(target + ".") && name.ends_with(partial);
}

/// Runs f in a process of its own that leaves nothing behind but files; gives its status.
template <class F>
int status_of(F const& f) {
  ::pid_t const child = ::fork();
  if (child == 0) {
    int result = 1;
    try {
      result = f();
    } catch (...) {
      result = 2;
    }
    ::_exit(result);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

/// A content of one letter that says how long it is: any cut shows.
std::string version(char letter) { return "100000" + std::string(100000, letter) + "end"; }
bool is_whole(std::string const& text) { return text.size() == 100009 && text == version(text[6]); }

::mode_t permissions(std::string const& path) {
  struct stat status{};
  BOOST_REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(atomic_file)

BOOST_AUTO_TEST_CASE(a_file_appears_when_it_is_published) {
  temporary_folder const folder;
  std::string const path = folder / "a";
  {
    stiefelx::atomic_file file(path);
    file.write("some ");
    file.write("text");
    BOOST_REQUIRE(folder.names().size() == 1U);
    BOOST_TEST(is_leftover(folder.names()[0], "a"));
    file.publish();
  }
  BOOST_TEST((folder.names() == std::vector<std::string>{"a"}));
  BOOST_TEST(content(path) == "some text");
  write_file(path, "");
  BOOST_TEST(content(path).empty());
}

BOOST_AUTO_TEST_CASE(a_file_that_is_not_published_leaves_nothing) {
  temporary_folder const folder;
  std::string const path = folder / "a";
  put(path, "old");
  {
    stiefelx::atomic_file file(path);
    file.write("new");
  }
  BOOST_TEST((folder.names() == std::vector<std::string>{"a"}));
  BOOST_TEST(content(path) == "old");
}

BOOST_AUTO_TEST_CASE(permissions_are_those_of_the_file_before) {
  temporary_folder const folder;
  std::string const path = folder / "a";
  ::mode_t const before = ::umask(022);
  write_file(path, "first");
  BOOST_TEST(permissions(path) == 0644U);
  BOOST_REQUIRE(::chmod(path.c_str(), 0600) == 0);
  write_file(path, "second");
  BOOST_TEST(permissions(path) == 0600U);
  BOOST_REQUIRE(::chmod(path.c_str(), 0666) == 0);
  write_file(path, "third");
  BOOST_TEST(permissions(path) == 0666U);
  ::umask(before);
}

BOOST_AUTO_TEST_CASE(a_link_is_replaced_and_what_it_names_stays) {
  temporary_folder const folder;
  put(folder / "blob", "shared");
  BOOST_REQUIRE(::symlink("blob", (folder / "link").c_str()) == 0);
  BOOST_REQUIRE(::symlink("nothing", (folder / "loose").c_str()) == 0);
  BOOST_REQUIRE(::chmod((folder / "blob").c_str(), 0600) == 0);
  write_file(folder / "link", "mine");
  BOOST_TEST(permissions(folder / "link") == 0600U);
  write_file(folder / "loose", "too");
  BOOST_TEST(content(folder / "blob") == "shared");
  BOOST_TEST(content(folder / "link") == "mine");
  BOOST_TEST(content(folder / "loose") == "too");
  BOOST_TEST(folder.names().size() == 3U);
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused) {
  temporary_folder const folder;
  BOOST_REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  expect_fault(format_fault::cannot_write, "pipe", [&] { write_file(folder / "pipe", "x"); });
  // By way of a link, so that a faulty writer does no harm to the device.
  BOOST_REQUIRE(::symlink("/dev/full", (folder / "full").c_str()) == 0);
  expect_fault(format_fault::cannot_write, "regular file",
               [&] { write_file(folder / "full", "x"); });
  expect_fault(format_fault::cannot_write, "regular file", [&] { write_file(folder / "", "x"); });
  expect_fault(format_fault::cannot_write, "No such file",
               [&] { write_file(folder / "none/a", "x"); });
  expect_fault(format_fault::cannot_write, "", [] { write_file("", "x"); });
  BOOST_TEST(folder.names().size() == 2U);
  BOOST_REQUIRE(::symlink(".", (folder / "link").c_str()) == 0);
  expect_fault(format_fault::cannot_write, "regular file",
               [&] { write_file(folder / "link", "x"); });
}

BOOST_AUTO_TEST_CASE(a_long_name_has_room_for_its_temporary_file) {
  temporary_folder const folder;
  std::string const name(255, 'n');
  write_file(folder / name, "x");
  BOOST_TEST((folder.names() == std::vector<std::string>{name}));
}

// A limit on the size of files stands for a disk that is full after some bytes.
BOOST_AUTO_TEST_CASE(a_full_disk_leaves_the_old_file_and_nothing_else) {
  temporary_folder const folder;
  std::string const path = folder / "a";
  put(path, version('o'));
  int const status = status_of([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    ::rlimit const limit{5000, 5000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
    try {
      write_file(path, version('n'));
    } catch (stiefelx::format_error const& error) {
      bool const named = std::string_view(error.what()).starts_with(path + ": ");
      return error.fault() == format_fault::cannot_write && named ? 0 : 4;
    }
    return 5;
  });
  BOOST_TEST(status == 0);
  BOOST_TEST((folder.names() == std::vector<std::string>{"a"}));
  BOOST_TEST(content(path) == version('o'));
}

// The writer stops after each piece and is killed there, so each state before publish() is met.
BOOST_AUTO_TEST_CASE(a_writer_killed_after_any_piece_leaves_the_old_file_whole) {
  for (int pieces = 0; pieces <= 4; ++pieces) {
    temporary_folder const folder;
    std::string const path = folder / "a";
    put(path, version('o'));
    int const status = status_of([&] {
      stiefelx::atomic_file file(path);
      for (int k = 0; k < pieces; ++k)
        file.write(version('n').substr(25000 * std::size_t(k), 25000));
      ::kill(::getpid(), SIGKILL);
      return 0;
    });
    BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    BOOST_TEST(content(path) == version('o'));
    auto names = folder.names();
    BOOST_REQUIRE(names.size() == 2U);
    std::sort(names.begin(), names.end());
    BOOST_TEST(names[0] == "a");
    BOOST_TEST(is_leftover(names[1], "a"));
    // What is left over is in nobody's way.
    write_file(path, "after");
    BOOST_TEST(content(path) == "after");
  }
}

// Without a handler, the signal of the limit kills the writer in the middle of the second tensor.
BOOST_AUTO_TEST_CASE(a_writer_killed_within_a_tensor_leaves_the_old_tensors_readable) {
  temporary_folder const folder;
  std::string const path = folder / "m.safetensors";
  std::vector<float> const first(30000, 1.0F), second(30000, 2.0F);
  auto const write_tensors = [&](std::vector<float> const& values) {
    stiefelx::safetensors_writer out;
    for (char const* name : {"a", "b"}) out.add_entries<float>(name, {values.size()}, values);
    out.write(path);
  };
  write_tensors(first);
  int const status = status_of([&] {
    ::rlimit const core{0, 0}, size{200000, 200000};
    if (::setrlimit(RLIMIT_CORE, &core) != 0 || ::setrlimit(RLIMIT_FSIZE, &size) != 0) return 3;
    ::signal(SIGXFSZ, SIG_DFL);
    write_tensors(second);
    return 0;
  });
  BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ));
  stiefelx::safetensors_file const in(path);
  BOOST_TEST((in.entries<float>("a") == first));
  BOOST_TEST((in.entries<float>("b") == first));
  BOOST_TEST(folder.names().size() == 2U);
}

// Killed at times of no plan, within publish() too.
BOOST_AUTO_TEST_CASE(a_writer_killed_at_any_time_leaves_a_whole_file) {
  temporary_folder const folder;
  std::string const path = folder / "a";
  put(path, version('o'));
  bool changed = false;
  for (int round = 0; round < 40; ++round) {
    ::pid_t const child = ::fork();
    if (child == 0) {
      for (int k = 0;; ++k) {
        try {
          write_file(path, version(static_cast<char>('a' + k % 26)));
        } catch (...) {
          ::_exit(1);
        }
      }
    }
    ::usleep(static_cast<::useconds_t>(500 + 400 * round));
    ::kill(child, SIGKILL);
    int status = 0;
    BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
    BOOST_TEST(WIFSIGNALED(status));
    std::string const text = content(path);
    BOOST_TEST(is_whole(text));
    changed = changed || text != version('o');
  }
  BOOST_TEST(changed);
  std::size_t leftovers = 0;
  for (std::string const& name : folder.names()) {
    if (name != "a") BOOST_TEST(is_leftover(name, "a"));
    leftovers += name != "a";
  }
  BOOST_TEST(leftovers <= 40U);
}

BOOST_AUTO_TEST_SUITE_END()
