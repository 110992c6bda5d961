// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/idx.hpp"

#include <zlib.h>

#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "tests/examples/temporary_folder.hpp"

namespace {

using namespace example_test;
using example::file_error;

std::string header(std::initializer_list<std::uint32_t> sizes) {
  std::string bytes{0, 0, 8, static_cast<char>(sizes.size())};
  for (auto const size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(size >> shift);
  }
  return bytes;
}

// Two images of 2 x 3 with the pixels 0 to 11.
std::string two_images() {
  auto bytes = header({2, 2, 3});
  for (char pixel = 0; pixel < 12; ++pixel) bytes += pixel;
  return bytes;
}

std::string gzip(temporary_folder const& folder, std::string const& bytes) {
  auto const path = folder / "gzip";
  auto* const file = gzopen(path.c_str(), "wb");
  BOOST_REQUIRE(file != nullptr);
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  BOOST_REQUIRE(gzclose(file) == Z_OK);
  return read_file(path);
}

// Writes bytes to a file, reads it as two images of 2 x 3, and returns what is wrong after the
// path.
std::string complaint(temporary_folder const& folder, std::string const& bytes) {
  auto const path = folder / "images";
  write_file(path, bytes);
  auto const text = message_of<file_error>([&] { example::read_images(path, 2, 2, 3); });
  auto const prefix = path.string() + ": ";
  BOOST_TEST(text.find('\n') == std::string::npos);
  return text.compare(0, prefix.size(), prefix) == 0 ? text.substr(prefix.size()) : text;
}

std::string label_complaint(temporary_folder const& folder, std::string const& bytes) {
  auto const path = folder / "labels";
  write_file(path, bytes);
  auto const text = message_of<file_error>([&] { example::read_labels(path, 3, 10); });
  auto const prefix = path.string() + ": ";
  return text.compare(0, prefix.size(), prefix) == 0 ? text.substr(prefix.size()) : text;
}

std::vector<std::uint8_t> counting(std::size_t count) {
  std::vector<std::uint8_t> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<std::uint8_t>(i);
  return values;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(idx)

BOOST_AUTO_TEST_CASE(plain_and_gzipped_images_are_read_alike) {
  temporary_folder const folder;
  for (auto const& bytes : {two_images(), gzip(folder, two_images())}) {
    write_file(folder / "images", bytes);
    for (std::size_t const expected : {2u, 0u}) {
      auto const images = example::read_images(folder / "images", expected, 2, 3);
      BOOST_TEST(images.count == 2u);
      BOOST_TEST(images.rows == 2u);
      BOOST_TEST(images.cols == 3u);
      BOOST_TEST(images.pixels == counting(12), boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(more_than_one_piece_of_memory_is_read_whole) {
  temporary_folder const folder;
  std::uint32_t const count = 40000;  // 31 MB, beyond the 16 MB the reader claims at once
  auto bytes = header({count, 28, 28});
  for (std::uint32_t i = 0; i < count * 784; ++i) bytes += static_cast<char>(i * 2654435761u >> 24);
  write_file(folder / "images", bytes);
  auto const images = example::read_images(folder / "images", 0);
  BOOST_TEST(images.count == count);
  BOOST_TEST((std::string(images.pixels.begin(), images.pixels.end()) == bytes.substr(16)));
}

BOOST_AUTO_TEST_CASE(no_images_are_no_error_where_any_number_will_do) {
  temporary_folder const folder;
  write_file(folder / "images", header({0, 28, 28}));
  BOOST_TEST(example::read_images(folder / "images", 0).pixels.empty());
}

BOOST_AUTO_TEST_CASE(missing_file_is_named) {
  temporary_folder const folder;
  auto const path = (folder / "images").string();
  BOOST_TEST(message_of<file_error>([&] { example::read_images(path, 0); }) ==
             path + ": expected an IDX file, found nothing (No such file or directory)");
  BOOST_TEST(message_of<file_error>([&] { example::read_labels(path, 0, 10); }) ==
             path + ": expected an IDX file, found nothing (No such file or directory)");
}

BOOST_AUTO_TEST_CASE(folder_is_no_file) {
  temporary_folder const folder;
  auto const path = folder.path().string();
  BOOST_TEST(message_of<file_error>([&] { example::read_images(path, 0); }) ==
             path + ": expected readable content, found Is a directory");
}

BOOST_AUTO_TEST_CASE(file_that_is_not_idx_is_refused) {
  temporary_folder const folder;
  std::string const expected =
      "expected the first bytes 00 00 08 03 (IDX, unsigned bytes, dimensions: 3), found ";
  BOOST_TEST(complaint(folder, "") == expected + "the end of the file");
  BOOST_TEST(complaint(folder, "PNG and more") == expected + "50 4e 47 20");
  BOOST_TEST(complaint(folder, std::string("\0\0\x08", 3)) == expected + "00 00 08");
  BOOST_TEST(complaint(folder, header({2})) == expected + "00 00 08 01");
  auto floats = two_images();
  floats[2] = 0x0D;
  BOOST_TEST(complaint(folder, floats) == expected + "00 00 0d 03");
  BOOST_TEST(label_complaint(folder, two_images()) ==
             "expected the first bytes 00 00 08 01 (IDX, unsigned bytes, dimensions: 1), found "
             "00 00 08 03");
}

BOOST_AUTO_TEST_CASE(other_counts_and_sizes_are_refused) {
  temporary_folder const folder;
  BOOST_TEST(complaint(folder, header({3, 2, 3})) == "expected 2 images, found 3");
  BOOST_TEST(complaint(folder, header({2, 3, 2})) == "expected images of 2 x 3, found 3 x 2");
  BOOST_TEST(complaint(folder, header({2, 2, 2})) == "expected images of 2 x 3, found 2 x 2");
  BOOST_TEST(label_complaint(folder, header({4})) == "expected 3 labels, found 4");
}

BOOST_AUTO_TEST_CASE(truncated_plain_file_is_refused_at_every_length) {
  temporary_folder const folder;
  auto const bytes = two_images();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    BOOST_TEST_CONTEXT("length " << length) {
      BOOST_TEST(complaint(folder, bytes.substr(0, length)) != "no exception");
    }
  }
  BOOST_TEST(complaint(folder, bytes.substr(0, 10)) ==
             "expected 12 bytes of the dimensions, found 6 bytes, then the end of the file");
  BOOST_TEST(complaint(folder, bytes.substr(0, 20)) ==
             "expected 12 bytes of pixels, found 4 bytes, then the end of the file");
}

BOOST_AUTO_TEST_CASE(truncated_gzip_file_is_refused_at_every_length) {
  temporary_folder const folder;
  auto const bytes = gzip(folder, two_images());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    BOOST_TEST_CONTEXT("length " << length) {
      BOOST_TEST(complaint(folder, bytes.substr(0, length)) != "no exception");
    }
  }
  BOOST_TEST(complaint(folder, bytes.substr(0, bytes.size() - 1)) ==
             "expected 12 bytes of pixels and the checksum, found a damaged gzip file (unexpected "
             "end of file)");
}

BOOST_AUTO_TEST_CASE(damaged_gzip_file_is_refused) {
  temporary_folder const folder;
  auto bytes = gzip(folder, two_images());
  bytes[bytes.size() - 6] ^= 1;  // in the checksum
  BOOST_TEST(complaint(folder, bytes) ==
             "expected readable content, found a damaged gzip file (incorrect data check)");
  bytes = gzip(folder, two_images());
  bytes[10] = 7;  // the type of the first block, which has no such value
  BOOST_TEST(complaint(folder, bytes) ==
             "expected readable content, found a damaged gzip file (invalid block type)");
}

BOOST_AUTO_TEST_CASE(longer_file_is_refused) {
  temporary_folder const folder;
  std::string const expected = "expected 12 bytes of pixels, found a longer file";
  BOOST_TEST(complaint(folder, two_images() + "x") == expected);
  BOOST_TEST(complaint(folder, gzip(folder, two_images() + "x")) == expected);
  BOOST_TEST(label_complaint(folder, header({3}) + "abcd") ==
             "expected 3 bytes of labels, found a longer file");
}

BOOST_AUTO_TEST_CASE(memory_is_not_claimed_on_the_word_of_the_header) {
  temporary_folder const folder;
  write_file(folder / "images", header({0xFFFFFFFFu, 28, 28}) + "few");
  BOOST_TEST(message_of<file_error>([&] { example::read_images(folder / "images", 0); }) ==
             (folder / "images").string() +
                 ": expected 3367254359280 bytes of pixels, found 3 bytes, then the end of the "
                 "file");
}

BOOST_AUTO_TEST_CASE(a_count_of_labels_beyond_the_file_is_refused) {
  temporary_folder const folder;
  write_file(folder / "labels", header({0xFFFFFFFFu}) + std::string("\x01\x02", 2));
  BOOST_TEST(message_of<file_error>([&] { example::read_labels(folder / "labels", 0, 10); }) ==
             (folder / "labels").string() +
                 ": expected 4294967295 bytes of labels, found 2 bytes, then the end of the file");
}

BOOST_AUTO_TEST_CASE(truncated_labels_are_refused_at_every_length) {
  temporary_folder const folder;
  auto const bytes = header({3}) + std::string("\x00\x09\x05", 3);
  for (auto const& whole : {bytes, gzip(folder, bytes)})
    for (std::size_t length = 0; length < whole.size(); ++length)
      BOOST_TEST_CONTEXT("length " << length) {
        BOOST_TEST(label_complaint(folder, whole.substr(0, length)) != "no exception");
      }
}

// Any number of images is taken here, so the counts of the header are all that says what is right.
BOOST_AUTO_TEST_CASE(a_changed_bit_of_a_header_is_refused_and_of_a_pixel_is_read) {
  temporary_folder const folder;
  auto const path = folder / "images";
  auto const sound = two_images();
  for (std::size_t place = 0; place < sound.size(); ++place)
    for (int bit = 0; bit < 8; ++bit) {
      auto bytes = sound;
      bytes[place] = static_cast<char>(bytes[place] ^ (1 << bit));
      write_file(path, bytes);
      BOOST_TEST_CONTEXT("bit " << bit << " of byte " << place) {
        if (place < 16) {
          auto const text = message_of<file_error>([&] { example::read_images(path, 0, 2, 3); });
          BOOST_TEST(text.substr(0, path.string().size()) == path.string());
          BOOST_TEST(text.size() < 1000);
        } else {
          auto const images = example::read_images(path, 0, 2, 3);
          BOOST_TEST(images.pixels[place - 16] == ((place - 16) ^ (1u << bit)));
        }
      }
    }
}

// Every byte of a gzipped file: an error of one line, or the images, since gzip's header has fields
// that change nothing.
BOOST_AUTO_TEST_CASE(a_changed_byte_of_a_gzipped_file_is_refused_or_changes_no_pixel) {
  temporary_folder const folder;
  auto const sound = gzip(folder, two_images());
  auto const path = folder / "images";
  std::size_t refused = 0;
  for (std::size_t place = 0; place < sound.size(); ++place)
    for (int change : {0x01, 0x80, 0xFF}) {
      auto bytes = sound;
      bytes[place] = static_cast<char>(bytes[place] ^ change);
      write_file(path, bytes);
      auto const text = complaint(folder, bytes);
      BOOST_TEST_CONTEXT("change " << change << " of byte " << place << ": " << text) {
        if (text != "no exception") {
          BOOST_TEST(text.size() < 1000);
          ++refused;
        } else {
          BOOST_TEST(example::read_images(path, 2, 2, 3).pixels == counting(12),
                     boost::test_tools::per_element());
        }
      }
    }
  BOOST_TEST(refused > sound.size());
}

BOOST_AUTO_TEST_CASE(labels_are_read_and_their_range_is_checked) {
  temporary_folder const folder;
  write_file(folder / "labels", header({3}) + std::string("\x00\x09\x05", 3));
  auto const labels = example::read_labels(folder / "labels", 3, 10);
  BOOST_TEST(labels == (std::vector<std::uint8_t>{0, 9, 5}), boost::test_tools::per_element());
  BOOST_TEST(label_complaint(folder, header({3}) + std::string("\x00\x09\x0a", 3)) ==
             "expected labels below 10, found 10 at position 2");
}

BOOST_AUTO_TEST_CASE(fashion_mnist_is_read_with_or_without_gzip_and_checked_in_every_file) {
  temporary_folder const folder;
  auto const images = [](std::uint32_t count) {
    return header({count, 28, 28}) + std::string(std::size_t{count} * 784, '\x07');
  };
  auto const labels = [](std::uint32_t count) {
    return header({count}) + std::string(count, '\x03');
  };
  auto const read = [&] { example::read_fashion_mnist(folder.path()); };
  auto const missing = [&](std::string const& name) {
    return (folder / name).string() +
           ": expected an IDX file, found nothing (No such file or directory)";
  };
  BOOST_TEST(message_of<file_error>(read) == missing("train-images-idx3-ubyte.gz"));
  write_file(folder / "train-images-idx3-ubyte.gz", gzip(folder, images(60000)));
  BOOST_TEST(message_of<file_error>(read) == missing("train-labels-idx1-ubyte.gz"));
  write_file(folder / "train-labels-idx1-ubyte", labels(60000));
  BOOST_TEST(message_of<file_error>(read) == missing("t10k-images-idx3-ubyte.gz"));
  write_file(folder / "t10k-images-idx3-ubyte", images(10000));
  write_file(folder / "t10k-labels-idx1-ubyte.gz", gzip(folder, labels(9999)));
  BOOST_TEST(message_of<file_error>(read) == (folder / "t10k-labels-idx1-ubyte.gz").string() +
                                                 ": expected 10000 labels, found 9999");
  write_file(folder / "t10k-labels-idx1-ubyte.gz", gzip(folder, labels(10000)));
  auto const all = example::read_fashion_mnist(folder.path());
  BOOST_TEST(all.train.images.pixels.size() == 60000u * 784);
  BOOST_TEST(all.train.labels.size() == 60000u);
  BOOST_TEST(all.test.images.pixels.size() == 10000u * 784);
  BOOST_TEST(all.test.labels.size() == 10000u);
  BOOST_TEST(all.test.images.pixels.back() == 7);
  BOOST_TEST(all.train.labels.back() == 3);
}

BOOST_AUTO_TEST_SUITE_END()
