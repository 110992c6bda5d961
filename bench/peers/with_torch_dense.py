# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer torch-dense: a mixture of LoRA experts as two products, gated in rank space."""
import sys

import moe_layer
import peer

if __name__ == "__main__":
    sys.exit(peer.run("torch-dense", moe_layer.setups(lambda layer: layer.add_dense),
                      lambda torch: "torch %s, %s" % (torch.__version__,
                                                      peer.blas_version(torch))))
