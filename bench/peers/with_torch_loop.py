# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer torch-loop: a mixture of LoRA experts as a Python loop over the experts."""
import sys

import moe_layer
import peer

if __name__ == "__main__":
    sys.exit(peer.run("torch-loop", moe_layer.setups(lambda layer: layer.add_loop),
                      lambda torch: "torch %s, %s" % (torch.__version__,
                                                      peer.blas_version(torch))))
