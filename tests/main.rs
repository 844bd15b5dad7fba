mod quant;
mod text;
mod sample;
