// Copies one row of SET_ROWS. INDEX is the type of the ids.

#define I32 int
#define I64 long

// Copies the row of x with the indices `at` to the row of y that its id names.
static void set_row(Bytes x, Bytes rows, Bytes y, long4 at, long n, long4 x_nb,
                    long4 rows_ne, long4 rows_nb, long4 y_ne, long4 y_nb,
                    global int *fault, int number) {
    // The ids repeat along the two outer dimensions of x: see ggml_set_rows.
    long4 of = (long4)(0, at.y, at.z % rows_ne.y, at.w % rows_ne.z);
    long row = *(global const INDEX *)(rows + of.y * rows_nb.x + of.z * rows_nb.y
                                       + of.w * rows_nb.z);
    if (!is_index(row, y_ne.y, fault, number)) return;
    copy_row(row_of(x, 0, x_nb, at), row_of(y, 0, y_nb, (long4)(0, row, at.zw)), n,
             x_nb.x, y_nb.x);
}

// Declares the arguments of one SET_ROWS, and copies one of its rows.
#define SET(a)                                                                          \
    Bytes a, ulong a##_at, Bytes a##_ids, ulong a##_ids_at, Bytes a##_to,               \
        ulong a##_to_at, long4 a##_ne, long4 a##_nb, long4 a##_ids_ne, long4 a##_ids_nb,\
        long4 a##_to_ne, long4 a##_to_nb
#define SET_ROW(a, at, fault, number)                                                   \
    set_row(a + a##_at, a##_ids + a##_ids_at, a##_to + a##_to_at, at, a##_ne.x, a##_nb, \
            a##_ids_ne, a##_ids_nb, a##_to_ne, a##_to_nb, fault, number)
