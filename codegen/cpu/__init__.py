"""LLVM IR for the CPU, written as text."""
