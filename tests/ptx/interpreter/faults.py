# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What stops a run."""


class Fault(Exception):
    """The program did what the check named `check` forbids; `text` says where and how, and
    `index` which of the lanes that were asked about did it."""

    def __init__(self, check, text, index=0):
        super().__init__(f"{check}: {text}")
        self.check = check
        self.text = text
        self.index = index


class Unsupported(Exception):
    """PTX that is not understood, named. Never does such an instruction give an answer."""
