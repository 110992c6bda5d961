// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace example {

/// Grey images, one after the other, each row by row.
struct image_set {
  std::size_t count = 0;             ///< number of images
  std::size_t rows = 0;              ///< height of an image
  std::size_t cols = 0;              ///< width of an image
  std::vector<std::uint8_t> pixels;  ///< count x rows x cols values, 0 to 255
};

/// Images with the class of each.
struct labelled_images {
  image_set images;                  ///< the images
  std::vector<std::uint8_t> labels;  ///< one class an image
};

}  // namespace example
