pub enum Token { Number(i64), Word(String), End }
pub fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = text.split_whitespace()
        .map(|w| match w.parse::<i64>() { Ok(n) => Token::Number(n), Err(_) => Token::Word(w.to_string()) }).collect();
    found.push(Token::End);
    found
}
