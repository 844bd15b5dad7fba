mod quant;
mod text;
mod sample;
mod tidy;
