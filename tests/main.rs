mod hub;
mod quant;
mod sample;
mod text;
mod tidy;
