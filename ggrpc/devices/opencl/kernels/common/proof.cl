// Tests whether a driver can build and run a kernel.

kernel void twice(global int *numbers) {
    numbers[get_global_id(0)] *= 2;
}
