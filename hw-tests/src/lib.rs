pub mod artifact;
pub mod rack;
pub mod stand;
