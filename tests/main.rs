fn main() {}
mod hub;
