"""Fast loops, and what they share. From the bottom up:

    kernel, threads         what a kernel is, and into how many parts it is split
    plain                   kernels by NumPy
    fast                    imports all that follows, which is in machine code

    host                    what the CPU can do
    static, micro, simd     numbers known to the compiler; micro-kernels; what these do with vectors
    dot                     products of bytes, with what the CPU has for them
    part, native            how functions are compiled, kept and called
    borrowed                NumPy's arrays as they lie
    recorded, written       what a kernel would do, written down; what generated functions are made of
    launch, crew            a kernel in several threads: its parts, and who takes them
    aside                   what takes long to compile, in two processes
    math, program           curves of vectors; elementwise steps as programs for vectors

    chain                   elementwise steps in one pass over memory
    gather, integers        rows of a table; what counts and compares whole numbers
    groups                  what many numbers become one in, or belong together: reduce, norm, softmax
    reorder                 layouts of images

    tile                    sums in registers, of which all products and most convolutions are made
    gemm, gemv              products of matrices, and of a matrix and a vector
    sparse, bitpacked       of sparse matrices; of signs
    taps, finite            which taps of a window meet what; what if a number is not finite

    im2col, im2col_weights  convolution as a product of matrices: columns
    direct, int8            of blocks of channels; the same, and products, of bytes
    indirect                of pixels whose channels lie side by side
    winograd                with less multiplications: combine, blocks, winograd_tiles, winograd_filters;
                            and the gradient by the weights: winograd_weights
    depthwise, pool         of each channel alone, and depthwise_columns, where images are wide
    lines, line_weights     a line at a time: line_kernels, images_in_lanes, columns_in_lanes

A kernel's file opens with its loops.
"""

from . import plain
