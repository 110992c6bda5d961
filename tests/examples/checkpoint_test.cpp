// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/checkpoint.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/examples/temporary_folder.hpp"

namespace {

using namespace example_test;
using example::checkpoint_reader;
using example::checkpoint_writer;
using example::file_error;

std::string small_checkpoint(temporary_folder const& folder) {
  checkpoint_writer writer;
  writer.add("x", std::vector<float>{1, 2, 3});
  writer.add("note", "hello");
  writer.write(folder / "small");
  return read_file(folder / "small");
}

// Puts the right checksum under bytes that were changed on purpose.
std::string signed_again(std::string bytes) {
  auto const end = bytes.size() - 4;
  auto const sum = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<unsigned char const*>(bytes.data()), static_cast<uInt>(end)));
  std::memcpy(bytes.data() + end, &sum, 4);
  return bytes;
}

std::string complaint(temporary_folder const& folder, std::string const& bytes) {
  auto const path = folder / "c";
  write_file(path, bytes);
  auto const text = message_of<file_error>([&] { checkpoint_reader const reader(path); });
  auto const prefix = path.string() + ": ";
  return text.compare(0, prefix.size(), prefix) == 0 ? text.substr(prefix.size()) : text;
}

template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

sig_atomic_t volatile other_calls = 0;
void other_action(int) { other_calls = other_calls + 1; }

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(values_come_back_with_the_same_bits) {
  temporary_folder const folder;
  std::vector<float> const floats{1.5f, -0.0f, std::numeric_limits<float>::denorm_min(),
                                  std::numeric_limits<float>::quiet_NaN()};
  std::vector<double> const doubles{0.1, -std::numeric_limits<double>::infinity(),
                                    std::numeric_limits<double>::signaling_NaN()};
  std::vector<std::int32_t> const ints{-7, 2147483647};
  std::vector<std::uint64_t> const words{18446744073709551615u};
  std::string const text("a\0b\n", 4);
  checkpoint_writer writer;
  writer.add("floats", floats);
  writer.add("doubles", doubles);
  writer.add("ints", ints);
  writer.add("words", words);
  writer.add("text", text);
  writer.add("empty", std::vector<double>{});
  writer.add("", "entry without a name");
  writer.write(folder / "c");

  checkpoint_reader const reader(folder / "c");
  BOOST_TEST(same_bits(reader.values<float>("floats"), floats));
  BOOST_TEST(same_bits(reader.values<double>("doubles"), doubles));
  BOOST_TEST(same_bits(reader.values<std::int32_t>("ints"), ints));
  BOOST_TEST(same_bits(reader.values<std::uint64_t>("words"), words));
  BOOST_TEST(reader.text("text") == text);
  BOOST_TEST(reader.values<double>("empty").empty());
  BOOST_TEST(reader.text("") == "entry without a name");
  std::vector<float> into(4);
  reader.get("floats", into);
  BOOST_TEST(same_bits(into, floats));
  std::array<std::uint64_t, 1> word{};
  reader.get("words", word);
  BOOST_TEST(word[0] == words[0]);
}

BOOST_AUTO_TEST_CASE(contains_knows_the_names) {
  temporary_folder const folder;
  small_checkpoint(folder);
  checkpoint_reader const reader(folder / "small");
  BOOST_TEST(reader.contains("x"));
  BOOST_TEST(reader.contains("note"));
  BOOST_TEST(!reader.contains("y"));
}

BOOST_AUTO_TEST_CASE(checkpoint_without_entries_is_valid) {
  temporary_folder const folder;
  checkpoint_writer().write(folder / "c");
  BOOST_TEST(!checkpoint_reader(folder / "c").contains(""));
}

BOOST_AUTO_TEST_CASE(same_content_gives_the_same_bytes) {
  temporary_folder const folder;
  auto const first = small_checkpoint(folder);
  BOOST_TEST(small_checkpoint(folder) == first);
  BOOST_TEST(folder.count() == 1u);
}

BOOST_AUTO_TEST_CASE(name_is_accepted_once) {
  checkpoint_writer writer;
  writer.add("x", std::vector<float>{1});
  BOOST_TEST(message_of<std::invalid_argument>([&] { writer.add("x", "text"); }) ==
             "checkpoint_writer: 'x' is there already");
}

BOOST_AUTO_TEST_CASE(wrong_name_type_and_count_are_refused) {
  temporary_folder const folder;
  small_checkpoint(folder);
  checkpoint_reader const reader(folder / "small");
  auto const path = (folder / "small").string();
  std::vector<float> four(4, 9.0f);
  std::vector<double> three(3);
  BOOST_TEST(message_of<file_error>([&] { reader.get("y", four); }) ==
             path + ": expected an entry 'y' of type float, found no such entry");
  BOOST_TEST(message_of<file_error>([&] { reader.get("x", three); }) ==
             path + ": expected an entry 'x' of type double, found type float");
  BOOST_TEST(message_of<file_error>([&] { (void)reader.values<std::int32_t>("note"); }) ==
             path + ": expected an entry 'note' of type int32, found type text");
  BOOST_TEST(message_of<file_error>([&] { (void)reader.text("x"); }) ==
             path + ": expected an entry 'x' of type text, found type float");
  BOOST_TEST(message_of<file_error>([&] { (void)reader.values<std::uint64_t>("x"); }) ==
             path + ": expected an entry 'x' of type uint64, found type float");
  BOOST_TEST(message_of<file_error>([&] { reader.get("x", four); }) ==
             path + ": expected 4 elements in entry 'x', found 3");
  BOOST_TEST(four == std::vector<float>(4, 9.0f), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(missing_file_and_folder_are_refused) {
  temporary_folder const folder;
  BOOST_TEST(message_of<file_error>([&] { checkpoint_reader const r(folder / "none"); }) ==
             (folder / "none").string() +
                 ": expected a checkpoint, found nothing (No such file or directory)");
  BOOST_TEST(message_of<file_error>([&] { checkpoint_reader const r(folder.path()); }) ==
             folder.path().string() + ": expected a checkpoint, found Is a directory");
}

BOOST_AUTO_TEST_CASE(other_files_and_versions_are_refused) {
  temporary_folder const folder;
  auto const good = small_checkpoint(folder);
  BOOST_TEST(complaint(folder, good) == "no exception");
  std::string const no_magic =
      "expected a checkpoint, found a file that does not start with STIEFELX";
  BOOST_TEST(complaint(folder, "") == no_magic);
  BOOST_TEST(complaint(folder, "x" + good) == no_magic);
  BOOST_TEST(complaint(folder, good.substr(0, 23)) == "expected a checkpoint, found only 23 bytes");
  auto newer = good;
  newer[8] = 2;
  BOOST_TEST(complaint(folder, signed_again(newer)) == "expected checkpoint version 1, found 2");
}

BOOST_AUTO_TEST_CASE(truncated_and_longer_files_are_refused) {
  temporary_folder const folder;
  auto const good = small_checkpoint(folder);
  auto const size = std::to_string(good.size());
  for (std::size_t length = 0; length < good.size(); ++length) {
    BOOST_TEST_CONTEXT("length " << length) {
      BOOST_TEST(complaint(folder, good.substr(0, length)) != "no exception");
    }
  }
  BOOST_TEST(complaint(folder, good.substr(0, 40)) == "expected " + size + " bytes, found 40");
  BOOST_TEST(complaint(folder, good + "x") ==
             "expected " + size + " bytes, found " + std::to_string(good.size() + 1));
}

BOOST_AUTO_TEST_CASE(every_changed_byte_is_noticed) {
  temporary_folder const folder;
  auto const good = small_checkpoint(folder);
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    BOOST_TEST_CONTEXT("byte " << i) { BOOST_TEST(complaint(folder, bad) != "no exception"); }
  }
  auto bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  BOOST_TEST(complaint(folder, bad).substr(0, 18) == "expected checksum ");
}

BOOST_AUTO_TEST_CASE(lengths_that_lie_are_noticed_under_a_right_checksum) {
  temporary_folder const folder;
  auto const good = small_checkpoint(folder);
  std::size_t const name = 20;            // length of the first name, then the name itself
  std::size_t const type = name + 8 + 1;  // element type of the first entry
  std::size_t const count = type + 1;     // number of its elements
  std::string const beyond =
      "expected entries that end with the file, found one that goes on beyond it";
  for (std::size_t const place : {name, count}) {
    for (std::size_t const byte : {0u, 7u}) {
      auto bad = good;
      bad[place + byte] = '\x7f';
      BOOST_TEST(complaint(folder, signed_again(bad)) == beyond);
    }
  }
  auto bad = good;
  bad[count + 7] = 0x40;  // times four bytes an element this is 2^64 more than there are
  BOOST_TEST(complaint(folder, signed_again(bad)) == beyond);
  bad = good;
  bad[type] = 6;
  BOOST_TEST(complaint(folder, signed_again(bad)) ==
             "expected an element type from 1 to 5 in entry 'x', found 6");
  bad[type] = 0;
  BOOST_TEST(complaint(folder, signed_again(bad)) ==
             "expected an element type from 1 to 5 in entry 'x', found 0");
}

BOOST_AUTO_TEST_CASE(name_that_appears_twice_is_refused) {
  temporary_folder const folder;
  checkpoint_writer writer;
  writer.add("a", "1");
  writer.add("b", "2");
  writer.write(folder / "two");
  auto bytes = read_file(folder / "two");
  bytes[bytes.find('b')] = 'a';
  BOOST_TEST(complaint(folder, signed_again(bytes)) == "expected every name once, found 'a' again");
}

BOOST_AUTO_TEST_CASE(failed_write_is_reported) {
  temporary_folder const folder;
  BOOST_CHECK_THROW(checkpoint_writer().write(folder / "none/c"), file_error);
}

BOOST_AUTO_TEST_CASE(first_interrupt_sets_the_flag_and_the_old_action_returns) {
  struct sigaction action{};
  action.sa_handler = other_action;
  struct sigaction before{};
  ::sigaction(SIGINT, &action, &before);
  other_calls = 0;
  {
    example::interrupt_flag const flag;
    BOOST_TEST(!flag.interrupted());
    ::raise(SIGINT);
    BOOST_TEST(flag.interrupted());
    BOOST_TEST(other_calls == 0);
  }
  ::raise(SIGINT);
  BOOST_TEST(other_calls == 1);
  BOOST_TEST(!example::interrupt_flag().interrupted());
  ::sigaction(SIGINT, &before, nullptr);
}

BOOST_AUTO_TEST_CASE(interrupt_arrives_where_it_was_ignored) {
  auto* const before = ::signal(SIGINT, SIG_IGN);
  {
    example::interrupt_flag const flag;
    ::raise(SIGINT);
    BOOST_TEST(flag.interrupted());
  }
  ::signal(SIGINT, before);
}

BOOST_AUTO_TEST_CASE(second_interrupt_ends_the_program) {
  auto const child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    example::interrupt_flag const flag;
    ::raise(SIGINT);
    ::raise(SIGINT);
    ::_exit(0);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(WTERMSIG(status) == SIGINT);
}

BOOST_AUTO_TEST_SUITE_END()
